-- ARGV[3...]: letter, history as JSON or nothing, of each. Returns how many wait again.
for i = 3, #ARGV, 2 do
  local row = redis.call('HGET', R .. 'dead', ARGV[i])
  local queue = row and string.match(row, '^%d+ (%S+)')
  local why = queue and unfit(queue)
  if why then return redis.error_reply(why) end
end
local back, count = {}, 0
even_if_full()
for i = 3, #ARGV, 2 do
  local row = exhume(ARGV[i])
  if row then
    local id, queue, submitted, length, rest =
      string.match(row, '^(%d+) (%S+) (%d+) %d+ %d+ (%d+) (.*)$')
    remember(id, ARGV[i + 1])
    back[queue] = back[queue] or {}
    table.insert(back[queue],
      { tonumber(id), id .. ' ' .. submitted .. ' 1', string.sub(rest, tonumber(length) + 1) })
    count = count + 1
  end
end
for queue, tasks in pairs(back) do put_back(queue, tasks) end
return count
