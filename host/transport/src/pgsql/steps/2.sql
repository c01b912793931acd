CREATE TABLE asynctask.rex_schedules (
    schedule text PRIMARY KEY,
    occasion timestamptz NOT NULL
);
COMMENT ON TABLE asynctask.rex_schedules IS
    'The last occasion of each schedule that was fired or passed over.';
