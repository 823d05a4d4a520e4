-- Returns the generation that stands, setting a new one where there is cause.
-- KEYS[1]  im:gen
-- ARGV[1]  a fresh random token
-- ARGV[2]  "1": set a new one whatever stands
-- ARGV[3]  "1": the lives given are those of all servers; "0": of some of a cluster
-- ARGV[4…] lives (run ID and replication ID), without commas
-- reply    {token, "1" where it is new}
local token, identity = unpack(redis.call('HMGET', KEYS[1], 'token', 'identity'))
local known, lives = {}, {}
for life in string.gmatch(identity or '', '[^,]+') do
  known[life] = true
  if ARGV[3] ~= '1' then lives[#lives + 1] = life end
end
local fresh = ARGV[2] == '1' or not token
for i = 4, #ARGV do
  if not known[ARGV[i]] then fresh = true end
  if ARGV[3] == '1' or not known[ARGV[i]] then lives[#lives + 1] = ARGV[i] end
end
lives = table.concat(lives, ',')
if not fresh then
  -- A master that is gone must not come back unnoticed.
  if lives ~= identity then redis.call('HSET', KEYS[1], 'identity', lives) end
  return {token, '0'}
end
-- DEL comes first: a full Redis still allows it, and what a script does after a
-- first write as well (7.0). Should it not, no generation voids all seals too.
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'token', ARGV[1], 'identity', lives)
return {ARGV[1], '1'}
