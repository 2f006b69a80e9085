"""`/api/v1`: what Kibana's API has no words for, in forms of our own."""
