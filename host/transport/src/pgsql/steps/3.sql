DROP INDEX asynctask.rex_tasks_due;
CREATE INDEX rex_tasks_due ON asynctask.rex_tasks (queue_name, due, id) WHERE due IS NOT NULL;
DROP INDEX asynctask.rex_claims_queue;
CREATE INDEX rex_claims_queue ON asynctask.rex_claims (queue_name, id);
