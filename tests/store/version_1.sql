-- The database as version 1 makes it, with a row here and there: later versions must open it.

CREATE TABLE accounts (
	name TEXT NOT NULL,
	hash TEXT NOT NULL,
	role TEXT NOT NULL,
	clusters TEXT,
	created_us BIGINT NOT NULL,
	disabled BOOLEAN DEFAULT 0 NOT NULL,
	CONSTRAINT pk_accounts PRIMARY KEY (name)
);

CREATE TABLE alerts (
	seq INTEGER NOT NULL,
	id TEXT NOT NULL,
	kind TEXT NOT NULL,
	rule_uuid TEXT NOT NULL,
	rule_id TEXT NOT NULL,
	rule_name TEXT NOT NULL,
	severity TEXT NOT NULL,
	risk_score FLOAT NOT NULL,
	cluster TEXT NOT NULL,
	tick_ms BIGINT NOT NULL,
	created_us BIGINT NOT NULL,
	event_time_us BIGINT,
	building_block BOOLEAN DEFAULT 0 NOT NULL,
	status TEXT NOT NULL,
	status_updated_us BIGINT,
	status_by TEXT,
	reason TEXT,
	tags TEXT NOT NULL,
	assignees TEXT NOT NULL,
	CONSTRAINT pk_alerts PRIMARY KEY (seq),
	CONSTRAINT uq_alerts_id UNIQUE (id)
);

CREATE INDEX ix_alerts_created ON alerts (created_us, id);

CREATE INDEX ix_alerts_rule_created ON alerts (rule_uuid, created_us);

CREATE INDEX ix_alerts_rule_tick ON alerts (rule_uuid, tick_ms);

CREATE INDEX ix_alerts_status_created ON alerts (status, created_us);

CREATE TABLE api_keys (
	id TEXT NOT NULL,
	name TEXT NOT NULL,
	hash TEXT NOT NULL,
	salt TEXT NOT NULL,
	role TEXT NOT NULL,
	clusters TEXT,
	created_us BIGINT NOT NULL,
	created_by TEXT NOT NULL,
	expires_us BIGINT,
	revoked_us BIGINT,
	last_used_us BIGINT,
	CONSTRAINT pk_api_keys PRIMARY KEY (id),
	CONSTRAINT uq_api_keys_name UNIQUE (name)
);

CREATE TABLE audit_trail (
	id INTEGER NOT NULL,
	at_us BIGINT NOT NULL,
	"by" TEXT NOT NULL,
	action TEXT NOT NULL,
	target TEXT NOT NULL,
	detail TEXT NOT NULL,
	CONSTRAINT pk_audit_trail PRIMARY KEY (id)
);

CREATE INDEX ix_audit_trail_at ON audit_trail (at_us);

CREATE INDEX ix_audit_trail_target ON audit_trail (target, at_us);

CREATE TABLE exception_items (
	id TEXT NOT NULL,
	item_id TEXT NOT NULL,
	list_id TEXT NOT NULL,
	namespace_type TEXT NOT NULL,
	type TEXT NOT NULL,
	created_at_us BIGINT NOT NULL,
	created_by TEXT NOT NULL,
	updated_at_us BIGINT NOT NULL,
	updated_by TEXT NOT NULL,
	version INTEGER NOT NULL,
	params TEXT NOT NULL,
	CONSTRAINT pk_exception_items PRIMARY KEY (id),
	CONSTRAINT uq_exception_items_item_id_namespace_type UNIQUE (item_id, namespace_type)
);

CREATE INDEX ix_exception_items_list ON exception_items (list_id, namespace_type);

CREATE TABLE exception_lists (
	id TEXT NOT NULL,
	list_id TEXT NOT NULL,
	namespace_type TEXT NOT NULL,
	type TEXT NOT NULL,
	created_at_us BIGINT NOT NULL,
	created_by TEXT NOT NULL,
	updated_at_us BIGINT NOT NULL,
	updated_by TEXT NOT NULL,
	version INTEGER NOT NULL,
	params TEXT NOT NULL,
	CONSTRAINT pk_exception_lists PRIMARY KEY (id),
	CONSTRAINT uq_exception_lists_list_id_namespace_type UNIQUE (list_id, namespace_type)
);

CREATE TABLE gaps (
	id INTEGER NOT NULL,
	rule_uuid TEXT NOT NULL,
	rule_id TEXT NOT NULL,
	from_ms BIGINT NOT NULL,
	to_ms BIGINT NOT NULL,
	status TEXT NOT NULL,
	filled_to_ms BIGINT,
	created_us BIGINT NOT NULL,
	updated_us BIGINT NOT NULL,
	message TEXT NOT NULL,
	CONSTRAINT pk_gaps PRIMARY KEY (id)
);

CREATE INDEX ix_gaps_rule ON gaps (rule_uuid, from_ms);

CREATE INDEX ix_gaps_status ON gaps (status, from_ms);

CREATE TABLE meta (
	"key" TEXT NOT NULL,
	value TEXT NOT NULL,
	CONSTRAINT pk_meta PRIMARY KEY ("key")
);

CREATE TABLE migrations (
	number INTEGER NOT NULL,
	name TEXT NOT NULL,
	applied_us BIGINT NOT NULL,
	CONSTRAINT pk_migrations PRIMARY KEY (number)
);

CREATE TABLE offsets (
	path TEXT NOT NULL,
	device BIGINT NOT NULL,
	inode BIGINT NOT NULL,
	"offset" BIGINT NOT NULL,
	head_hash TEXT,
	updated_us BIGINT NOT NULL,
	extra TEXT,
	CONSTRAINT pk_offsets PRIMARY KEY (path, device, inode)
);

CREATE TABLE outbox (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	sink TEXT NOT NULL,
	alert_id TEXT NOT NULL,
	created_us BIGINT NOT NULL,
	state TEXT NOT NULL,
	attempts INTEGER DEFAULT '0' NOT NULL,
	next_us BIGINT NOT NULL,
	last_error TEXT,
	done_us BIGINT,
	CONSTRAINT uq_outbox_sink_alert_id UNIQUE (sink, alert_id)
);

CREATE INDEX ix_outbox_alert ON outbox (alert_id);

CREATE INDEX ix_outbox_done ON outbox (done_us);

CREATE INDEX ix_outbox_due ON outbox (sink, state, next_us);

CREATE TABLE rule_state (
	rule_uuid TEXT NOT NULL,
	last_tick_ms BIGINT,
	enabled_at_us BIGINT,
	last_status TEXT,
	last_status_us BIGINT,
	last_message TEXT,
	last_metrics TEXT,
	state TEXT,
	CONSTRAINT pk_rule_state PRIMARY KEY (rule_uuid)
);

CREATE TABLE rules (
	id TEXT NOT NULL,
	rule_id TEXT NOT NULL,
	enabled BOOLEAN DEFAULT 0 NOT NULL,
	revision INTEGER NOT NULL,
	source TEXT NOT NULL,
	path TEXT,
	is_customized BOOLEAN DEFAULT 0 NOT NULL,
	created_at_us BIGINT NOT NULL,
	created_by TEXT NOT NULL,
	updated_at_us BIGINT NOT NULL,
	updated_by TEXT NOT NULL,
	params TEXT NOT NULL,
	CONSTRAINT pk_rules PRIMARY KEY (id),
	CONSTRAINT uq_rules_rule_id UNIQUE (rule_id)
);

CREATE TABLE runs (
	id TEXT NOT NULL,
	rule_uuid TEXT NOT NULL,
	rule_id TEXT NOT NULL,
	kind TEXT NOT NULL,
	tick_ms BIGINT NOT NULL,
	from_ms BIGINT NOT NULL,
	to_ms BIGINT NOT NULL,
	started_us BIGINT NOT NULL,
	duration_ms BIGINT NOT NULL,
	delay_ms BIGINT NOT NULL,
	status TEXT NOT NULL,
	message TEXT NOT NULL,
	events BIGINT NOT NULL,
	matches BIGINT NOT NULL,
	alerts BIGINT NOT NULL,
	capped BIGINT NOT NULL,
	metrics TEXT NOT NULL,
	CONSTRAINT pk_runs PRIMARY KEY (id)
);

CREATE INDEX ix_runs_rule_started ON runs (rule_uuid, started_us);

CREATE INDEX ix_runs_started ON runs (started_us);

CREATE TABLE sink_state (
	sink TEXT NOT NULL,
	json TEXT NOT NULL,
	CONSTRAINT pk_sink_state PRIMARY KEY (sink)
);

CREATE TABLE value_lists (
	id TEXT NOT NULL,
	type TEXT NOT NULL,
	created_at_us BIGINT NOT NULL,
	created_by TEXT NOT NULL,
	updated_at_us BIGINT NOT NULL,
	updated_by TEXT NOT NULL,
	version INTEGER NOT NULL,
	params TEXT NOT NULL,
	CONSTRAINT pk_value_lists PRIMARY KEY (id)
);

CREATE TABLE watches (
	kind TEXT NOT NULL,
	subject TEXT NOT NULL,
	state TEXT NOT NULL,
	since_us BIGINT NOT NULL,
	alert_id TEXT,
	detail TEXT,
	CONSTRAINT pk_watches PRIMARY KEY (kind, subject)
);

CREATE TABLE alert_documents (
	alert_seq INTEGER NOT NULL,
	document TEXT NOT NULL,
	CONSTRAINT pk_alert_documents PRIMARY KEY (alert_seq),
	CONSTRAINT fk_alert_documents_alert_seq FOREIGN KEY(alert_seq) REFERENCES alerts (seq) ON DELETE CASCADE
);

CREATE TABLE alert_history (
	id INTEGER NOT NULL,
	alert_id TEXT NOT NULL,
	at_us BIGINT NOT NULL,
	"by" TEXT NOT NULL,
	what TEXT NOT NULL,
	"before" TEXT,
	"after" TEXT,
	reason TEXT,
	CONSTRAINT pk_alert_history PRIMARY KEY (id),
	CONSTRAINT fk_alert_history_alert_id FOREIGN KEY(alert_id) REFERENCES alerts (id) ON DELETE CASCADE
);

CREATE INDEX ix_alert_history_alert ON alert_history (alert_id, id);

CREATE INDEX ix_alert_history_at ON alert_history (at_us);

CREATE TABLE alert_notes (
	id INTEGER NOT NULL,
	alert_id TEXT NOT NULL,
	at_us BIGINT NOT NULL,
	"by" TEXT NOT NULL,
	text TEXT NOT NULL,
	CONSTRAINT pk_alert_notes PRIMARY KEY (id),
	CONSTRAINT fk_alert_notes_alert_id FOREIGN KEY(alert_id) REFERENCES alerts (id) ON DELETE CASCADE
);

CREATE INDEX ix_alert_notes_alert ON alert_notes (alert_id, id);

CREATE TABLE value_list_items (
	id TEXT NOT NULL,
	list_id TEXT NOT NULL,
	value TEXT NOT NULL,
	created_at_us BIGINT NOT NULL,
	created_by TEXT NOT NULL,
	updated_at_us BIGINT NOT NULL,
	updated_by TEXT NOT NULL,
	version INTEGER NOT NULL,
	meta TEXT,
	CONSTRAINT pk_value_list_items PRIMARY KEY (id),
	CONSTRAINT uq_value_list_items_list_id_value UNIQUE (list_id, value),
	CONSTRAINT fk_value_list_items_list_id FOREIGN KEY(list_id) REFERENCES value_lists (id) ON DELETE CASCADE
);

INSERT INTO migrations VALUES (1, 'first tables', 1700000000000000);
INSERT INTO rules VALUES ('u-1', 'r-1', 1, 3, 'api', NULL, 0, 5, 'ann', 6, 'bob', '{"name":"Caf\u00e9"}');
INSERT INTO runs VALUES ('run', 'u-1', 'r-1', 'scheduled', 1, 2, 3, 4, 5, 6, 'succeeded', '', 7, 8, 9, 10, '{}');
INSERT INTO alerts VALUES (1, 'al-1', 'live', 'u-1', 'r-1', 'Rule', 'low', 21.0, 'prod', 1, 2, NULL, 0, 'closed', 3, 'ann', 'duplicate', '["a"]', '[]');
INSERT INTO alert_documents VALUES (1, '{"@timestamp":"x"}');
INSERT INTO outbox (sink, alert_id, created_us, state, next_us) VALUES ('file', 'al-1', 1, 'done', 2);
