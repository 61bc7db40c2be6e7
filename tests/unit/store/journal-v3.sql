BEGIN TRANSACTION;
CREATE TABLE event (
	job TEXT NOT NULL, 
	seq INTEGER NOT NULL, 
	t_ns BIGINT NOT NULL, 
	type TEXT NOT NULL, 
	station TEXT NOT NULL, 
	attempt INTEGER NOT NULL, 
	data JSON NOT NULL, 
	PRIMARY KEY (job, seq), 
	FOREIGN KEY(job) REFERENCES job (job)
);
INSERT INTO "event" VALUES('done',0,1700000001000000000,'queued','',0,'{"user":"ann","benchmark":"digits01","modes":["accuracy"]}');
INSERT INTO "event" VALUES('retried',0,1700000002000000000,'queued','',0,'{"user":"ann","benchmark":"digits01","modes":["accuracy"]}');
INSERT INTO "event" VALUES('running',0,1700000003000000000,'queued','',0,'{"user":"ann","benchmark":"digits01","modes":["accuracy"]}');
INSERT INTO "event" VALUES('queued',0,1700000004000000000,'queued','',0,'{"user":"ann","benchmark":"digits01","modes":["accuracy"]}');
INSERT INTO "event" VALUES('done',1,1700000005000000000,'leased','s1',0,'{}');
INSERT INTO "event" VALUES('done',2,1700000006000000000,'started','s1',1,'{}');
INSERT INTO "event" VALUES('done',3,1700000007000000000,'result','s1',1,'{"mode":"accuracy","verdict":"pass","reasons":[],"score":{"top1_pct":98.5},"details":{"simulated":false,"dut":"","route":"","firmware":"","firmware_sha256":"","voltage_mv":null,"instruments":{}}}');
INSERT INTO "event" VALUES('done',4,1700000008000000000,'finished','s1',1,'{"verdict":"pass","reason":""}');
INSERT INTO "event" VALUES('retried',1,1700000010000000000,'leased','s1',0,'{}');
INSERT INTO "event" VALUES('retried',2,1700000011000000000,'started','s1',1,'{}');
INSERT INTO "event" VALUES('retried',3,1700000012000000000,'requeued','s1',1,'{"reason":"no answer within 5 s"}');
INSERT INTO "event" VALUES('running',1,1700000013000000000,'leased','s2',0,'{}');
INSERT INTO "event" VALUES('running',2,1700000014000000000,'started','s2',1,'{}');
CREATE TABLE job (
	number INTEGER NOT NULL, 
	job TEXT NOT NULL, 
	user TEXT NOT NULL, 
	benchmark TEXT NOT NULL, 
	modes JSON NOT NULL, 
	wanted_station TEXT NOT NULL, 
	firmware TEXT NOT NULL, 
	priority TEXT NOT NULL, 
	voltage_mv INTEGER, 
	energy_method TEXT NOT NULL, 
	state TEXT NOT NULL, 
	submitted_ns BIGINT NOT NULL, 
	updated_ns BIGINT NOT NULL, 
	attempt INTEGER NOT NULL, 
	station TEXT NOT NULL, 
	verdict TEXT, 
	reason TEXT NOT NULL, 
	cancel_requested BOOLEAN NOT NULL, 
	next_seq INTEGER NOT NULL, 
	PRIMARY KEY (number), 
	UNIQUE (job)
);
INSERT INTO "job" VALUES(1,'done','ann','digits01','["accuracy"]','','','normal',NULL,'labd','done',1700000001000000000,1700000008000000000,1,'s1','pass','',0,5);
INSERT INTO "job" VALUES(2,'retried','ann','digits01','["accuracy"]','','','normal',NULL,'labd','queued',1700000002000000000,1700000012000000000,1,'',NULL,'no answer within 5 s',0,4);
INSERT INTO "job" VALUES(3,'running','ann','digits01','["accuracy"]','','','normal',NULL,'labd','running',1700000003000000000,1700000014000000000,1,'s2',NULL,'',0,3);
INSERT INTO "job" VALUES(4,'queued','ann','digits01','["accuracy"]','','','normal',NULL,'labd','queued',1700000004000000000,1700000004000000000,0,'',NULL,'',0,1);
CREATE TABLE pin (
	job TEXT NOT NULL, 
	user TEXT NOT NULL, 
	t_ns BIGINT NOT NULL, 
	PRIMARY KEY (job), 
	FOREIGN KEY(job) REFERENCES job (job)
);
INSERT INTO "pin" VALUES('done','ann',1700000009000000000);
CREATE TABLE removed (
	job TEXT NOT NULL, 
	attempt INTEGER NOT NULL, 
	t_ns BIGINT NOT NULL, 
	PRIMARY KEY (job, attempt), 
	FOREIGN KEY(job, attempt) REFERENCES run (job, attempt)
);
CREATE TABLE result (
	number INTEGER NOT NULL, 
	job TEXT NOT NULL, 
	attempt INTEGER NOT NULL, 
	mode TEXT NOT NULL, 
	t_ns BIGINT NOT NULL, 
	data JSON NOT NULL, 
	PRIMARY KEY (number), 
	UNIQUE (job, attempt, mode), 
	FOREIGN KEY(job, attempt) REFERENCES run (job, attempt)
);
INSERT INTO "result" VALUES(1,'done',1,'accuracy',1700000007000000000,'{"mode":"accuracy","verdict":"pass","reasons":[],"score":{"top1_pct":98.5},"details":{"simulated":false,"dut":"","route":"","firmware":"","firmware_sha256":"","voltage_mv":null,"instruments":{}},"windows":[]}');
CREATE TABLE run (
	job TEXT NOT NULL, 
	attempt INTEGER NOT NULL, 
	station TEXT NOT NULL, 
	started_ns BIGINT NOT NULL, 
	ended_ns BIGINT, 
	outcome TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	PRIMARY KEY (job, attempt), 
	FOREIGN KEY(job) REFERENCES job (job)
);
INSERT INTO "run" VALUES('done',1,'s1',1700000006000000000,1700000008000000000,'pass','');
INSERT INTO "run" VALUES('retried',1,'s1',1700000011000000000,1700000012000000000,'fault','no answer within 5 s');
INSERT INTO "run" VALUES('running',1,'s2',1700000014000000000,NULL,'','');
CREATE TABLE schema (
	version INTEGER NOT NULL, 
	PRIMARY KEY (version)
);
INSERT INTO "schema" VALUES(3);
CREATE INDEX job_by_state ON job (state, submitted_ns);
CREATE UNIQUE INDEX one_job_a_station ON job (station) WHERE state IN ('leased', 'running');
COMMIT;
