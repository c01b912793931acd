-- What rex-host adds to the original's table of jobs; the table and its trigger stay as they are. May
-- be run again, by several at once.
SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('rex.job additions', 0));

-- The codes of rows that are inserted at the same time do not collide, because one transaction
-- inserts at a time.
CREATE OR REPLACE FUNCTION rex_one_at_a_time() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_catalog.pg_advisory_xact_lock(
        pg_catalog.hashtextextended('rex one at a time', TG_RELID::int8));
    RETURN NULL;
END;
$$;
DROP TRIGGER IF EXISTS job_ahead ON job;
CREATE TRIGGER job_ahead BEFORE INSERT ON job
    FOR EACH STATEMENT EXECUTE FUNCTION rex_one_at_a_time();

-- Hosts hear of new jobs when they are committed.
CREATE OR REPLACE FUNCTION rex_new_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_catalog.pg_notify('rex_job', 'new');
    RETURN NULL;
END;
$$;
DROP TRIGGER IF EXISTS job_noticed ON job;
CREATE TRIGGER job_noticed AFTER INSERT ON job
    FOR EACH STATEMENT EXECUTE FUNCTION rex_new_job();

-- What a limited type waits for is found without reading all that was ever done.
CREATE INDEX IF NOT EXISTS rex_job_new ON job (date_submitted, code) WHERE status = 'new';
CREATE INDEX IF NOT EXISTS rex_job_active ON job (type) WHERE status IN ('queued', 'started');

-- A job's last run: which host, for which task of the queue, how far it is. Once another run has
-- begun, the outcome of this one does not count.
CREATE TABLE IF NOT EXISTS rex_job_run (
    job_id int4 PRIMARY KEY REFERENCES job (id) ON DELETE CASCADE,
    -- The host holds the advisory lock of this number while it lives.
    host int8 NOT NULL,
    task int8 NOT NULL,
    -- From 0 to 1.
    fraction float8,
    progress text,
    -- Somebody asked for its end: it is killed after so many seconds.
    cancel_grace float8
);

-- What a job logged and printed, in pieces.
CREATE TABLE IF NOT EXISTS rex_job_log (
    job_id int4 NOT NULL REFERENCES job (id) ON DELETE CASCADE,
    piece int8 GENERATED ALWAYS AS IDENTITY,
    text text NOT NULL,
    PRIMARY KEY (job_id, piece)
);
