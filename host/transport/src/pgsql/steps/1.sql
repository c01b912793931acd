CREATE TABLE asynctask.rex_owners (
    no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text NOT NULL UNIQUE,
    lock_key bigint NOT NULL,
    machine text NOT NULL,
    pid integer NOT NULL,
    started bigint NOT NULL,
    beats bigint NOT NULL DEFAULT 1,
    beaten timestamptz NOT NULL DEFAULT clock_timestamp(),
    free_since timestamptz
);
COMMENT ON TABLE asynctask.rex_owners IS
    'Running hosts. Deleting a row is the fence: its owner can claim and finish no more.';

CREATE TABLE asynctask.rex_claims (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner bigint NOT NULL REFERENCES asynctask.rex_owners (no),
    queue_name text NOT NULL,
    claimed timestamptz NOT NULL DEFAULT clock_timestamp(),
    size integer NOT NULL,
    ids bigint[] NOT NULL,
    payloads json[] NOT NULL,
    dates timestamp[] NOT NULL,
    attempts integer[] NOT NULL,
    priorities smallint[],
    histories json[],
    keyed boolean NOT NULL DEFAULT false,
    done bigint[] NOT NULL DEFAULT '{}'
);
CREATE INDEX rex_claims_queue ON asynctask.rex_claims (queue_name);
COMMENT ON TABLE asynctask.rex_claims IS
    'Tasks taken by a host, a row a batch; those in "done" are finished.';

CREATE TABLE asynctask.rex_tasks (
    id bigint PRIMARY KEY,
    queue_name text NOT NULL,
    payload json NOT NULL,
    date_submitted timestamp DEFAULT current_timestamp,
    priority smallint NOT NULL DEFAULT 0,
    attempt integer NOT NULL DEFAULT 1,
    due timestamptz,
    history json
);
CREATE INDEX rex_tasks_ready ON asynctask.rex_tasks (queue_name, priority, id) WHERE due IS NULL;
CREATE INDEX rex_tasks_due ON asynctask.rex_tasks (queue_name, due) WHERE due IS NOT NULL;
COMMENT ON TABLE asynctask.rex_tasks IS
    'Waiting tasks with attributes that asynctask_queue has no columns for; ids from its sequence.';

CREATE TABLE asynctask.rex_keys (
    queue_name text NOT NULL,
    key text NOT NULL,
    task bigint NOT NULL UNIQUE,
    PRIMARY KEY (queue_name, key)
);
COMMENT ON TABLE asynctask.rex_keys IS
    'Keys of unique tasks that are not finished.';

CREATE TABLE asynctask.rex_queues (
    queue_name text PRIMARY KEY,
    paused boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE asynctask.rex_queues IS
    'Queues that were paused at some time.';

CREATE TABLE asynctask.rex_dead (
    letter bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id bigint NOT NULL,
    queue_name text NOT NULL,
    payload json NOT NULL,
    date_submitted timestamp,
    died timestamptz NOT NULL DEFAULT clock_timestamp(),
    priority smallint NOT NULL DEFAULT 0,
    attempts integer NOT NULL,
    reason text NOT NULL,
    details jsonb NOT NULL
);
CREATE INDEX rex_dead_queue ON asynctask.rex_dead (queue_name, letter);
COMMENT ON TABLE asynctask.rex_dead IS
    'Tasks that failed for good.';

CREATE FUNCTION asynctask.rex_submit(
    queue_name text,
    payload json,
    priority smallint DEFAULT 0,
    due timestamptz DEFAULT NULL,
    unique_key text DEFAULT NULL,
    OUT id bigint,
    OUT existed boolean
) LANGUAGE plpgsql AS $body$
BEGIN
    IF queue_name !~ '^[a-z][a-z0-9]*(_[a-z0-9]+)*$' OR length(queue_name) < 2 THEN
        RAISE EXCEPTION '"%" is not a properly-formatted queue name', queue_name
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF json_typeof(payload) IS DISTINCT FROM 'object' THEN
        RAISE EXCEPTION 'Expected a JSON object' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    existed := false;
    id := nextval(pg_get_serial_sequence('asynctask.asynctask_queue', 'id'));
    IF unique_key IS NOT NULL THEN
        LOOP
            -- Waits for whoever is just putting in or finishing a task of that key.
            INSERT INTO asynctask.rex_keys AS keys (queue_name, key, task)
            VALUES (rex_submit.queue_name, unique_key, rex_submit.id)
            ON CONFLICT DO NOTHING;
            EXIT WHEN FOUND;
            SELECT keys.task, true INTO rex_submit.id, rex_submit.existed
            FROM asynctask.rex_keys AS keys
            WHERE keys.queue_name = rex_submit.queue_name AND keys.key = unique_key;
            IF FOUND THEN
                RETURN;
            END IF;
            id := nextval(pg_get_serial_sequence('asynctask.asynctask_queue', 'id'));
            existed := false;
        END LOOP;
    END IF;
    IF coalesce(priority, 0) = 0 AND due IS NULL AND unique_key IS NULL THEN
        INSERT INTO asynctask.asynctask_queue (id, queue_name, payload)
        VALUES (rex_submit.id, rex_submit.queue_name, rex_submit.payload);
    ELSE
        INSERT INTO asynctask.rex_tasks (id, queue_name, payload, priority, due)
        VALUES (rex_submit.id, rex_submit.queue_name, rex_submit.payload,
            coalesce(rex_submit.priority, 0::smallint), rex_submit.due);
    END IF;
    PERFORM pg_catalog.pg_notify('rex_asynctask', queue_name);
END
$body$;
COMMENT ON FUNCTION asynctask.rex_submit IS
    'Puts a task into a queue when the transaction commits. Lower priority numbers first. With a unique key: returns the unfinished task of that key instead, if there is one (existed).';
