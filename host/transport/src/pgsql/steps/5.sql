-- Which tasks of a claim have a key is noted when they are taken: their ids alone do not tell, since a
-- sequence that was set back gives them to others, too.
ALTER TABLE asynctask.rex_claims ADD COLUMN keys bigint[];
UPDATE asynctask.rex_claims AS claims
SET keys = ARRAY(
    SELECT task FROM asynctask.rex_keys AS keys
    WHERE keys.queue_name = claims.queue_name AND task = ANY (ids)
)
WHERE keyed;
ALTER TABLE asynctask.rex_claims DROP COLUMN keyed;
