-- ARGV[3] owner or nothing. Returns whether it is entered, the server's time, then owner, record of
-- the others.
local owner, time = ARGV[3], now()
local record = redis.call('HGET', R .. 'owners', owner)
if record then
  even_if_full()
  redis.call('HSET', R .. 'owners', owner, time .. ' ' .. string.match(record, ' (.*)$'))
end
local reply = { record and '1' or '0', time }
local owners = redis.call('HGETALL', R .. 'owners')
for i = 1, #owners, 2 do
  if owners[i] ~= owner then
    reply[#reply + 1] = owners[i]
    reply[#reply + 1] = owners[i + 1]
  end
end
return reply
