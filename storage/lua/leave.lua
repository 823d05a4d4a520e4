-- Takes members away, each only if it was entered before a time.
-- KEYS[1]  the set, scored by when each member was entered
-- ARGV[1]  time      ARGV[2…] members
-- reply    how many went
local before, gone = tonumber(ARGV[1]), 0
for i = 2, #ARGV do
  local at = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if at and tonumber(at) < before then
    gone = gone + redis.call('ZREM', KEYS[1], ARGV[i])
  end
end
return gone
