CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL,
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
CREATE TABLE change (
	seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	xid BIGINT,
	op VARCHAR(1) NOT NULL,
	segment_id BIGINT NOT NULL,
	recording_id BIGINT NOT NULL,
	CONSTRAINT ck_change_ck_change_op CHECK (op in ('+', '-'))
);
CREATE INDEX ix_change_xid ON change (xid);
CREATE TABLE ingest_failure (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	uri TEXT NOT NULL,
	reason VARCHAR(64) NOT NULL,
	message TEXT NOT NULL,
	attempts INTEGER NOT NULL,
	failed_at DATETIME NOT NULL,
	CONSTRAINT uq_ingest_failure_uri UNIQUE (uri)
);
CREATE INDEX ix_ingest_failure_reason ON ingest_failure (reason);
CREATE TABLE space (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	encoder VARCHAR(255) NOT NULL,
	revision VARCHAR(64) NOT NULL,
	dim INTEGER NOT NULL,
	labels JSON NOT NULL,
	projection VARCHAR(64) NOT NULL,
	source TEXT NOT NULL,
	created_at DATETIME NOT NULL, reference_embedding BLOB, vectors VARCHAR(16), state VARCHAR(16),
	CONSTRAINT uq_space_encoder_revision_projection UNIQUE (encoder, revision, projection)
);
CREATE TABLE collection (
	id INTEGER NOT NULL,
	uuid VARCHAR(36) NOT NULL,
	space_id INTEGER,
	created_at DATETIME NOT NULL, projection_id INTEGER CONSTRAINT fk_collection_projection_id REFERENCES projection (id), policy JSON, engine JSON,
	CONSTRAINT pk_collection PRIMARY KEY (id),
	CONSTRAINT ck_collection_ck_collection_single_row CHECK (id = 1),
	CONSTRAINT fk_collection_space_id FOREIGN KEY(space_id) REFERENCES space (id)
);
CREATE TABLE recording (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	space_id INTEGER NOT NULL,
	content_sha256 VARCHAR(64) NOT NULL,
	uri TEXT NOT NULL,
	name TEXT NOT NULL,
	size_bytes BIGINT NOT NULL,
	mtime_ns BIGINT NOT NULL,
	recorded_at DATETIME NOT NULL,
	added_at DATETIME NOT NULL,
	duration_s FLOAT NOT NULL,
	channels INTEGER NOT NULL,
	sampling_rate_hz INTEGER NOT NULL,
	format VARCHAR(64) NOT NULL,
	note TEXT NOT NULL, roles JSON, course VARCHAR(16), crc32 BIGINT DEFAULT 0 NOT NULL,
	CONSTRAINT fk_recording_space_id FOREIGN KEY(space_id) REFERENCES space (id),
	CONSTRAINT uq_recording_content_sha256_space_id UNIQUE (content_sha256, space_id),
	CONSTRAINT uq_recording_uri_space_id UNIQUE (uri, space_id)
);
CREATE INDEX ix_recording_name ON recording (name);
CREATE INDEX ix_recording_recorded_at ON recording (recorded_at);
CREATE TABLE recording_metadata (
	recording_id INTEGER NOT NULL,
	"key" VARCHAR(255) NOT NULL,
	text TEXT NOT NULL,
	number FLOAT, crc32 BIGINT DEFAULT 0 NOT NULL,
	CONSTRAINT pk_recording_metadata PRIMARY KEY (recording_id, "key"),
	CONSTRAINT fk_recording_metadata_recording_id FOREIGN KEY(recording_id) REFERENCES recording (id) ON DELETE CASCADE
);
CREATE INDEX ix_recording_metadata_key_number ON recording_metadata ("key", number);
CREATE TABLE segment (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	recording_id INTEGER NOT NULL,
	channel INTEGER NOT NULL,
	start_s FLOAT NOT NULL,
	end_s FLOAT NOT NULL,
	label VARCHAR(64),
	label_score FLOAT,
	scores BLOB, arousal FLOAT, valence FLOAT, level_db FLOAT, crc32 BIGINT DEFAULT 0 NOT NULL,
	CONSTRAINT fk_segment_recording_id FOREIGN KEY(recording_id) REFERENCES recording (id) ON DELETE CASCADE
);
CREATE INDEX ix_segment_label ON segment (label);
CREATE INDEX ix_segment_recording_id ON segment (recording_id);
CREATE TABLE segment_text (
	segment_id INTEGER NOT NULL,
	text TEXT NOT NULL,
	words TEXT NOT NULL, crc32 BIGINT DEFAULT 0 NOT NULL,
	CONSTRAINT pk_segment_text PRIMARY KEY (segment_id),
	CONSTRAINT fk_segment_text_segment_id FOREIGN KEY(segment_id) REFERENCES segment (id) ON DELETE CASCADE
);
CREATE TABLE label_example (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	label VARCHAR(64) NOT NULL,
	segment_id INTEGER,
	vector BLOB,
	source TEXT NOT NULL,
	speaker TEXT,
	created_at DATETIME NOT NULL, crc32 BIGINT DEFAULT 0 NOT NULL,
	CONSTRAINT ck_label_example_ck_label_example_segment_or_vector CHECK ((segment_id is null) <> (vector is null)),
	CONSTRAINT fk_label_example_segment_id FOREIGN KEY(segment_id) REFERENCES segment (id) ON DELETE CASCADE,
	CONSTRAINT uq_label_example_segment_id UNIQUE (segment_id)
);
CREATE INDEX ix_label_example_label ON label_example (label);
CREATE TABLE classifier (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	name VARCHAR(64) NOT NULL,
	version INTEGER NOT NULL,
	space_id INTEGER NOT NULL,
	labels JSON NOT NULL,
	parameters BLOB NOT NULL,
	report JSON NOT NULL,
	created_at DATETIME NOT NULL,
	watermark BIGINT,
	min_score FLOAT,
	CONSTRAINT fk_classifier_space_id FOREIGN KEY(space_id) REFERENCES space (id),
	CONSTRAINT uq_classifier_name_version UNIQUE (name, version)
);
CREATE TABLE segment_label (
	segment_id INTEGER NOT NULL,
	classifier_id INTEGER NOT NULL,
	label VARCHAR(64) NOT NULL,
	score FLOAT NOT NULL, crc32 BIGINT DEFAULT 0 NOT NULL,
	CONSTRAINT pk_segment_label PRIMARY KEY (segment_id, classifier_id),
	CONSTRAINT fk_segment_label_segment_id FOREIGN KEY(segment_id) REFERENCES segment (id) ON DELETE CASCADE,
	CONSTRAINT fk_segment_label_classifier_id FOREIGN KEY(classifier_id) REFERENCES classifier (id) ON DELETE CASCADE
);
CREATE INDEX ix_segment_label_label_score ON segment_label (label, score);
CREATE TABLE map (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	name VARCHAR(64) NOT NULL,
	space_id INTEGER NOT NULL,
	"by" VARCHAR(16) NOT NULL,
	filter TEXT,
	options JSON NOT NULL,
	clusters JSON NOT NULL,
	created_at DATETIME NOT NULL,
	CONSTRAINT fk_map_space_id FOREIGN KEY(space_id) REFERENCES space (id),
	CONSTRAINT uq_map_name UNIQUE (name)
);
CREATE TABLE map_point (
	map_id INTEGER NOT NULL,
	item_id BIGINT NOT NULL,
	x FLOAT NOT NULL,
	y FLOAT NOT NULL,
	cluster INTEGER NOT NULL,
	strength FLOAT NOT NULL,
	placed BOOLEAN NOT NULL,
	CONSTRAINT pk_map_point PRIMARY KEY (map_id, item_id),
	CONSTRAINT fk_map_point_map_id FOREIGN KEY(map_id) REFERENCES map (id) ON DELETE CASCADE
);
CREATE INDEX ix_map_point_map_id_cluster ON map_point (map_id, cluster);
CREATE VIRTUAL TABLE segment_words USING fts5(words, content='segment_text', content_rowid='segment_id', tokenize='ascii');
CREATE TRIGGER segment_text_added AFTER INSERT ON segment_text BEGIN
        INSERT INTO segment_words (rowid, words) VALUES (new.segment_id, new.words);
    END;
CREATE TRIGGER segment_text_gone AFTER DELETE ON segment_text BEGIN
        INSERT INTO segment_words (segment_words, rowid, words) VALUES ('delete', old.segment_id, old.words);
    END;
CREATE TRIGGER segment_text_changed AFTER UPDATE ON segment_text BEGIN
        INSERT INTO segment_words (segment_words, rowid, words) VALUES ('delete', old.segment_id, old.words);
        INSERT INTO segment_words (rowid, words) VALUES (new.segment_id, new.words);
    END;
CREATE TABLE named_vector_set (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	name VARCHAR(64) NOT NULL,
	dim INTEGER NOT NULL,
	created_at DATETIME NOT NULL,
	CONSTRAINT uq_named_vector_set_name UNIQUE (name)
);
CREATE TABLE job (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	uri TEXT NOT NULL,
	state VARCHAR(16) NOT NULL,
	priority INTEGER NOT NULL,
	attempts INTEGER NOT NULL,
	enqueued_at DATETIME NOT NULL,
	due_at DATETIME,
	worker VARCHAR(255),
	token VARCHAR(32),
	reason VARCHAR(64),
	message TEXT,
	details JSON,
	recorded_at DATETIME,
	CONSTRAINT ck_job_state CHECK (state in ('queued', 'leased', 'dead_letter')),
	CONSTRAINT uq_job_uri UNIQUE (uri)
);
CREATE INDEX ix_job_order ON job (priority DESC, id) WHERE state <> 'dead_letter';
CREATE TABLE audit (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	at DATETIME NOT NULL,
	actor TEXT NOT NULL,
	action VARCHAR(32) NOT NULL,
	request JSON NOT NULL,
	results JSON NOT NULL
);
CREATE TRIGGER audit_not_changed BEFORE UPDATE ON audit BEGIN
        SELECT RAISE(ABORT, 'the audit log is append-only');
    END;
CREATE TRIGGER audit_not_deleted BEFORE DELETE ON audit BEGIN
        SELECT RAISE(ABORT, 'the audit log is append-only');
    END;
CREATE TABLE vector (
	segment_id INTEGER NOT NULL,
	vector BLOB NOT NULL,
	crc32 BIGINT NOT NULL,
	CONSTRAINT pk_vector PRIMARY KEY (segment_id),
	CONSTRAINT fk_vector_segment_id FOREIGN KEY(segment_id) REFERENCES segment (id) ON DELETE CASCADE
);
CREATE TABLE named_vector (
	set_id INTEGER NOT NULL,
	segment_id INTEGER NOT NULL,
	vector BLOB NOT NULL,
	crc32 BIGINT NOT NULL,
	CONSTRAINT pk_named_vector PRIMARY KEY (set_id, segment_id),
	CONSTRAINT fk_named_vector_set_id FOREIGN KEY(set_id) REFERENCES named_vector_set (id) ON DELETE CASCADE,
	CONSTRAINT fk_named_vector_segment_id FOREIGN KEY(segment_id) REFERENCES segment (id) ON DELETE CASCADE
);
CREATE TABLE dynamics (
	recording_id INTEGER NOT NULL,
	talk_share FLOAT NOT NULL,
	silence_share FLOAT NOT NULL,
	longest_silence_s FLOAT NOT NULL,
	overtalk FLOAT,
	interruptions INTEGER,
	turns INTEGER,
	overlaps JSON NOT NULL,
	silences JSON NOT NULL, crc32 BIGINT DEFAULT 0 NOT NULL,
	CONSTRAINT pk_dynamics PRIMARY KEY (recording_id),
	CONSTRAINT fk_dynamics_recording_id FOREIGN KEY(recording_id) REFERENCES recording (id) ON DELETE CASCADE
);
CREATE TABLE channel_dynamics (
	recording_id INTEGER NOT NULL,
	channel INTEGER NOT NULL,
	talk_share FLOAT NOT NULL,
	turns INTEGER,
	interruptions INTEGER,
	longest_turn_s FLOAT, crc32 BIGINT DEFAULT 0 NOT NULL,
	CONSTRAINT pk_channel_dynamics PRIMARY KEY (recording_id, channel),
	CONSTRAINT fk_channel_dynamics_recording_id FOREIGN KEY(recording_id) REFERENCES dynamics (recording_id) ON DELETE CASCADE
);
CREATE TABLE vector_beside (
	segment_id INTEGER NOT NULL,
	vector BLOB NOT NULL,
	crc32 BIGINT NOT NULL,
	CONSTRAINT pk_vector_beside PRIMARY KEY (segment_id),
	CONSTRAINT fk_vector_beside_segment_id FOREIGN KEY(segment_id) REFERENCES segment (id) ON DELETE CASCADE
);
CREATE TABLE segment_beside (
	segment_id INTEGER NOT NULL,
	label VARCHAR(64),
	label_score FLOAT,
	scores BLOB,
	arousal FLOAT,
	valence FLOAT,
	crc32 BIGINT NOT NULL,
	CONSTRAINT pk_segment_beside PRIMARY KEY (segment_id),
	CONSTRAINT fk_segment_beside_segment_id FOREIGN KEY(segment_id) REFERENCES segment (id) ON DELETE CASCADE
);
CREATE TABLE projection (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	name VARCHAR(64) NOT NULL,
	kind VARCHAR(16) NOT NULL,
	revision VARCHAR(64) NOT NULL,
	space_id INTEGER NOT NULL,
	parameters BLOB NOT NULL,
	report JSON NOT NULL,
	created_at DATETIME NOT NULL,
	CONSTRAINT fk_projection_space_id FOREIGN KEY(space_id) REFERENCES space (id),
	CONSTRAINT uq_projection_space_id_name UNIQUE (space_id, name)
);
INSERT INTO alembic_version (version_num) VALUES ('0013');
