BEGIN TRANSACTION;
CREATE TABLE accounts (
	account VARCHAR(600) NOT NULL, 
	tat BIGINT NOT NULL, 
	concurrent INTEGER NOT NULL, 
	pages_in_flight BIGINT NOT NULL, 
	reset_at BIGINT NOT NULL, 
	PRIMARY KEY (account)
);
INSERT INTO "accounts" VALUES('key:acme',1796001493702937,0,0,0);
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0006');
CREATE TABLE "audit" (
	id INTEGER NOT NULL, 
	at BIGINT NOT NULL, 
	actor VARCHAR(600) NOT NULL, 
	action VARCHAR(32) NOT NULL, 
	subject VARCHAR(600) NOT NULL, 
	detail TEXT NOT NULL, 
	untold SMALLINT, 
	PRIMARY KEY (id)
);
INSERT INTO "audit" VALUES(1,1796001474,'demo:root','key.create','demo','{"profile": "default", "owner": "demo", "scopes": ["admin"], "networks": [], "limits": {}, "expires_at": null}',NULL);
INSERT INTO "audit" VALUES(2,1796001475,'configuration','secret.set','webhooks.out.secret','{"fingerprint": "b161ede7"}',NULL);
INSERT INTO "audit" VALUES(3,1796001478,'cli:root','key.create','acme','{"profile": "default", "owner": "team", "scopes": ["admin"], "networks": [], "limits": {"pages_per_month": 10}, "expires_at": null}',NULL);
INSERT INTO "audit" VALUES(4,1796001480,'cli:root','key.grant','acme','{"pages": 7, "until": 4070908800}',NULL);
INSERT INTO "audit" VALUES(5,1796001482,'cli:root','key.rotate','acme','{"generation": 2, "previous_ends_at": 4949601482}',NULL);
INSERT INTO "audit" VALUES(6,1796001483,'cli:root','key.create','off','{"profile": "default", "owner": "off", "scopes": [], "networks": [], "limits": {}, "expires_at": null}',NULL);
INSERT INTO "audit" VALUES(7,1796001485,'cli:root','key.disable','off','{}',NULL);
INSERT INTO "audit" VALUES(8,1796001487,'cli:root','key.create','gone','{"profile": "default", "owner": "gone", "scopes": [], "networks": [], "limits": {}, "expires_at": null}',NULL);
INSERT INTO "audit" VALUES(9,1796001489,'cli:root','key.revoke','gone','{"generations": [1], "force": true}',NULL);
INSERT INTO "audit" VALUES(10,1796001480,'anyone','request.refused','unauthenticated','{"count": 1}',NULL);
CREATE TABLE checkpoints (
	upstream VARCHAR(64) NOT NULL, 
	checkpoint VARCHAR(256) NOT NULL, 
	owner VARCHAR(600) NOT NULL, 
	expires_at BIGINT NOT NULL, 
	PRIMARY KEY (upstream, checkpoint, owner)
);
CREATE TABLE counters (
	name VARCHAR(16) NOT NULL, 
	value BIGINT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "counters" VALUES('keys',7);
INSERT INTO "counters" VALUES('beat',9);
INSERT INTO "counters" VALUES('ledger',2461867138238420813);
INSERT INTO "counters" VALUES('least',3);
CREATE TABLE deliveries (
	id VARCHAR(32) NOT NULL, 
	upstream VARCHAR(64) NOT NULL, 
	request_id VARCHAR(256) NOT NULL, 
	owner VARCHAR(600) NOT NULL, 
	url TEXT NOT NULL, 
	destination VARCHAR(300) NOT NULL, 
	check_url TEXT, 
	state SMALLINT NOT NULL, 
	status VARCHAR(16), 
	attempts INTEGER NOT NULL, 
	next_at BIGINT, 
	leased_by VARCHAR(32), 
	last_status INTEGER, 
	last_error VARCHAR(64), 
	created_at BIGINT NOT NULL, 
	ended_at BIGINT, 
	PRIMARY KEY (id), 
	CONSTRAINT uq_deliveries_job UNIQUE (upstream, request_id)
);
INSERT INTO "deliveries" VALUES('2fe30a6b086ae30bc0d3634fbe623213','default','QxKVnrUnZ8NO8VCxhwdRFg','key:team','https://localhost:9444/hook','localhost:9444','https://localhost:28443/api/v1/marker/QxKVnrUnZ8NO8VCxhwdRFg',1,'complete',3,1796001527,NULL,NULL,'connection',1796001493,1796001494);
CREATE TABLE grants (
	id INTEGER NOT NULL, 
	account VARCHAR(600) NOT NULL, 
	pages BIGINT NOT NULL, 
	created_at BIGINT NOT NULL, 
	until BIGINT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "grants" VALUES(1,'key:acme',7,1796001480,4070908800);
CREATE TABLE jobs (
	upstream VARCHAR(64) NOT NULL, 
	request_id VARCHAR(256) NOT NULL, 
	reservation VARCHAR(64) NOT NULL, 
	account VARCHAR(600) NOT NULL, 
	owner VARCHAR(600) NOT NULL, 
	shape VARCHAR(63) NOT NULL, 
	path VARCHAR(2048) NOT NULL, 
	check_url TEXT, 
	state SMALLINT NOT NULL, 
	created_at BIGINT NOT NULL, 
	ended_at BIGINT, 
	expires_at BIGINT, 
	changed_at BIGINT, 
	watcher VARCHAR(32) NOT NULL, read_at BIGINT, known SMALLINT DEFAULT '0' NOT NULL, 
	PRIMARY KEY (upstream, request_id)
);
INSERT INTO "jobs" VALUES('default','7jUOmVK4MSkpEx4Xa1mQAg','0929866a45110c933efa0bf9ec341317','key:acme','key:team','default','/api/v1/marker','https://localhost:28443/api/v1/marker/7jUOmVK4MSkpEx4Xa1mQAg',1,1796001492,1796001493,1796005093,1796001493951,'a1d1c11d2b4ad7c359e070f3338c989e',NULL,1);
INSERT INTO "jobs" VALUES('default','CCf_LbR6Y95WFzxIbkneEQ','59de2c6e84ee6e53bf52572e37edfcfb','key:acme','key:team','default','/api/v1/marker','https://localhost:28443/api/v1/marker/CCf_LbR6Y95WFzxIbkneEQ',1,1796001493,1796001494,1796005094,1796001494053,'a1d1c11d2b4ad7c359e070f3338c989e',NULL,1);
INSERT INTO "jobs" VALUES('default','QxKVnrUnZ8NO8VCxhwdRFg','b8622db2a5f31f8e04b3cfc228cbd2c0','key:acme','key:team','default','/api/v1/marker','https://localhost:28443/api/v1/marker/QxKVnrUnZ8NO8VCxhwdRFg',1,1796001493,1796001494,1796005094,1796001494137,'a1d1c11d2b4ad7c359e070f3338c989e',NULL,1);
CREATE TABLE keys (
	id VARCHAR(63) NOT NULL, 
	profile VARCHAR(63) NOT NULL, 
	owner VARCHAR(128) NOT NULL, 
	scopes TEXT NOT NULL, 
	networks TEXT NOT NULL, 
	limits TEXT NOT NULL, 
	created_at BIGINT NOT NULL, 
	expires_at BIGINT, 
	disabled_at BIGINT, 
	revision BIGINT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "keys" VALUES('demo','default','demo','["admin"]','[]','{}',1796001474,NULL,NULL,1);
INSERT INTO "keys" VALUES('acme','default','team','["admin"]','[]','{"pages_per_month": 10}',1796001478,NULL,NULL,3);
INSERT INTO "keys" VALUES('off','default','off','[]','[]','{}',1796001483,NULL,1796001485,5);
INSERT INTO "keys" VALUES('gone','default','gone','[]','[]','{}',1796001487,NULL,NULL,7);
CREATE TABLE received (
	name VARCHAR(63) NOT NULL, 
	request_id VARCHAR(256) NOT NULL, 
	handled SMALLINT NOT NULL, 
	until BIGINT NOT NULL, 
	PRIMARY KEY (name, request_id)
);
CREATE TABLE replicas (
	name VARCHAR(32) NOT NULL, 
	alive_until BIGINT NOT NULL, 
	PRIMARY KEY (name)
);
CREATE TABLE reservations (
	id VARCHAR(64) NOT NULL, 
	account VARCHAR(600) NOT NULL, 
	owner VARCHAR(600) NOT NULL, 
	stage SMALLINT NOT NULL, 
	mode VARCHAR(16) NOT NULL, 
	pages BIGINT NOT NULL, 
	price BIGINT NOT NULL, 
	day INTEGER NOT NULL, 
	month INTEGER NOT NULL, 
	upstream VARCHAR(64) NOT NULL, 
	request_id VARCHAR(256), 
	created_at BIGINT NOT NULL, 
	expires_at BIGINT, 
	settled_at BIGINT, given_back BIGINT, 
	PRIMARY KEY (id), 
	CONSTRAINT uq_reservations_request_id UNIQUE (upstream, request_id)
);
INSERT INTO "reservations" VALUES('0929866a45110c933efa0bf9ec341317','key:acme','key:team',3,'',3,0,20261130,202611,'default','7jUOmVK4MSkpEx4Xa1mQAg',1796001492,NULL,1796001493,NULL);
INSERT INTO "reservations" VALUES('59de2c6e84ee6e53bf52572e37edfcfb','key:acme','key:team',3,'',3,0,20261130,202611,'default','CCf_LbR6Y95WFzxIbkneEQ',1796001493,NULL,1796001494,NULL);
INSERT INTO "reservations" VALUES('b8622db2a5f31f8e04b3cfc228cbd2c0','key:acme','key:team',3,'',3,0,20261130,202611,'default','QxKVnrUnZ8NO8VCxhwdRFg',1796001493,NULL,1796001494,NULL);
CREATE TABLE secrets (
	key_id VARCHAR(63) NOT NULL, 
	generation INTEGER NOT NULL, 
	digest BLOB NOT NULL, 
	operation VARCHAR(128), 
	created_at BIGINT NOT NULL, 
	not_after BIGINT, 
	revoked_at BIGINT, 
	last_used_at BIGINT, 
	PRIMARY KEY (key_id, generation), 
	UNIQUE (digest), 
	CONSTRAINT uq_secrets_operation UNIQUE (key_id, operation)
);
INSERT INTO "secrets" VALUES('demo',1,X'8712085F49DFC8544BBF30E13968E1B9A530533941DB553B46A377E0579158EA',NULL,1796001474,NULL,NULL,NULL);
INSERT INTO "secrets" VALUES('acme',1,X'A7CFF4A4B1B5F661BB00D4D3C25942CA7FC570A86C05F09F4D7764C5A04E915D',NULL,1796001478,4949601482,NULL,1796001493);
INSERT INTO "secrets" VALUES('acme',2,X'1A3CD08BE438A88F4C98BCCF5CCF52531DA242056103DB974178076B7D5338FE',NULL,1796001482,NULL,NULL,1796001493);
INSERT INTO "secrets" VALUES('off',1,X'86634C3737DBDAA263AB547D471AEF33036064ACF94C52D8D7B0549261BA59F0',NULL,1796001483,NULL,NULL,NULL);
INSERT INTO "secrets" VALUES('gone',1,X'9AE35F150A5E4C204F5B25BF8694B17C7FBC5F8D33C52807AA828E36AE1059C6',NULL,1796001487,NULL,1796001489,NULL);
CREATE TABLE usage (
	account VARCHAR(600) NOT NULL, 
	day INTEGER NOT NULL, 
	requests BIGINT NOT NULL, 
	failed BIGINT NOT NULL, 
	pages BIGINT NOT NULL, 
	refunded BIGINT NOT NULL, 
	spend BIGINT NOT NULL, 
	PRIMARY KEY (account, day)
);
INSERT INTO "usage" VALUES('key:acme',20261130,3,0,9,0,0);
CREATE TABLE windows (
	period INTEGER NOT NULL, 
	account VARCHAR(600) NOT NULL, 
	requests BIGINT NOT NULL, 
	pages BIGINT NOT NULL, 
	spend BIGINT NOT NULL, 
	PRIMARY KEY (period, account)
);
INSERT INTO "windows" VALUES(20261130,'key:acme',3,9,0);
INSERT INTO "windows" VALUES(202611,'key:acme',3,9,0);
CREATE INDEX ix_grants_account ON grants (account);
CREATE INDEX ix_keys_revision ON keys (revision);
CREATE INDEX ix_reservations_expires_at ON reservations (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX ix_usage_day ON usage (day);
CREATE INDEX ix_jobs_owner ON jobs (owner, created_at);
CREATE INDEX ix_jobs_created_at ON jobs (created_at);
CREATE INDEX ix_jobs_changed_at ON jobs (changed_at) WHERE changed_at IS NOT NULL;
CREATE INDEX ix_jobs_expires_at ON jobs (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX ix_jobs_living ON jobs (state, watcher) WHERE state != 3;
CREATE INDEX ix_deliveries_destination ON deliveries (destination);
CREATE INDEX ix_deliveries_created_at ON deliveries (created_at);
CREATE INDEX ix_deliveries_next_at ON deliveries (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX ix_received_until ON received (until);
CREATE INDEX ix_audit_at ON audit (at);
CREATE INDEX ix_audit_action ON audit (action, id);
CREATE INDEX ix_audit_untold ON audit (id) WHERE untold IS NOT NULL;
CREATE INDEX ix_checkpoints_expires_at ON checkpoints (expires_at);
COMMIT;
