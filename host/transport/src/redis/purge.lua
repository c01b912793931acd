-- ARGV[3] queue. Returns how many waited.
local queue = ARGV[3]
local count = redis.call('LLEN', list(queue)) + redis.call('ZCARD', due(queue))
if redis.call('EXISTS', R .. 'history') == 1 then
  for _, head in ipairs(redis.call('LRANGE', meta(queue), 0, -1)) do
    redis.call('HDEL', R .. 'history', string.match(head, '^%d+'))
  end
  for _, id in ipairs(redis.call('ZRANGE', due(queue), 0, -1)) do
    redis.call('HDEL', R .. 'history', id)
  end
end
redis.call('DEL', list(queue), meta(queue), due(queue), later(queue))
return count
