"""The shipped rules as people work with them: which are there, and which are newer than here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from barrelman.service.rulechanges import add_rule, change_rule
from barrelman.service.ruledesk import RuleDesk
from barrelman.service.ruleshape import Props, without
from barrelman.store import rules
from barrelman.store.rules import StoredRule

if TYPE_CHECKING:
    from barrelman.store.database import Connection

JsonObject: TypeAlias = dict[str, Any]

# What an update leaves as it is here.
_OURS = ("exceptions_list", "actions", "throttle", "response_actions", "meta", "enabled")


class PackDesk:
    """Installs and updates what the desk's pack holds."""

    def __init__(self, desk: RuleDesk) -> None:
        self._desk = desk

    def status(self) -> JsonObject:
        """How many rules there are of which kind."""
        stored, pack = self._desk.database.read(rules.all), self._desk.pack
        known = {rule.rule_id: rule for rule in stored}
        shipped = [rule for rule in stored if rule.source == "pack"]
        return {
            "rules_custom_installed": len(stored) - len(shipped),
            "rules_installed": len(shipped),
            "rules_not_installed": sum(rule_id not in known for rule_id in pack),
            "rules_not_updated": sum(_is_older(known.get(key), new) for key, new in pack.items()),
            "timelines_installed": 0,
            "timelines_not_installed": 0,
            "timelines_not_updated": 0,
        }

    def stats(self) -> JsonObject:
        """The same in the words of the newer API."""
        status = self.status()
        return {
            "stats": {
                "num_prebuilt_rules_installed": status["rules_installed"],
                "num_prebuilt_rules_to_install": status["rules_not_installed"],
                "num_prebuilt_rules_to_upgrade": status["rules_not_updated"],
                "num_prebuilt_rules_total_in_package": len(self._desk.pack),
            }
        }

    def install(self, *, by: str) -> JsonObject:
        """Adds rules that are missing, disabled, and updates those that nobody edited."""
        hand, pack = self._desk.hand(by), self._desk.pack

        def run(connection: Connection) -> tuple[int, int]:
            installed = updated = 0
            for rule_id, shipped in pack.items():
                params = without(shipped, ("enabled",))
                old = rules.get(connection, rule_id=rule_id)
                if old is None:
                    props = Props(params, False, None)
                    add_rule(connection, props, hand, may_be_shipped=True)
                    installed += 1
                elif _is_older(old, shipped) and not old.is_customized:
                    kept = {name: old.params[name] for name in _OURS if name in old.params}
                    new = {**params, **kept}
                    change_rule(connection, old, new, enabled=old.enabled, hand=hand)
                    updated += 1
            return installed, updated

        installed, updated = self._desk.change(run)
        return {
            "rules_installed": installed,
            "rules_updated": updated,
            "timelines_installed": 0,
            "timelines_updated": 0,
        }


def _is_older(stored: StoredRule | None, shipped: Mapping[str, Any]) -> bool:
    if stored is None or stored.source != "pack":
        return False
    return bool(stored.params.get("version", 1) < shipped.get("version", 1))
