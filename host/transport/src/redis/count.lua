-- ARGV[3] queue. Returns how many wait, how many more are delayed, how many are in flight, whether it is
-- paused, and in how many microseconds the next one is due, or -1.
local queue = ARGV[3]
local why = unfit(queue)
if why then return redis.error_reply(why) end
local ready = waiting(queue)
local delayed = redis.call('ZCOUNT', due(queue), '(' .. now(), '+inf')
local flying = tonumber(redis.call('HGET', R .. 'inflight', queue) or '0')
local next = redis.call('ZRANGEBYSCORE', due(queue), '(' .. now(), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
local wait = -1
if next[2] then wait = tonumber(next[2]) - tonumber(now()) end
return { ready, delayed, flying, is_paused(queue) and 1 or 0, wait }
