-- ARGV[3...]: letters. Returns how many there were.
local why = unfit_shared()
if why then return redis.error_reply(why) end
local count = 0
even_if_full()
for i = 3, #ARGV do
  if exhume(ARGV[i]) then count = count + 1 end
end
return count
