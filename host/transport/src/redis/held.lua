-- ARGV[3] owner. Returns claim, queue of each of its claims.
local claims, reply = redis.call('HGETALL', R .. 'claims'), {}
for i = 1, #claims, 2 do
  local holder, queue = string.match(claims[i + 1], '^(%d+) (.*)$')
  if holder == ARGV[3] then
    reply[#reply + 1] = claims[i]
    reply[#reply + 1] = queue
  end
end
return reply
