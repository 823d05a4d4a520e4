-- Returns the generation that stands, setting a new one where there is cause.
-- KEYS[1]  im:gen
-- ARGV[1]  identity of this server (run ID and replication ID)
-- ARGV[2]  a fresh random token
-- ARGV[3]  "1": set a new one whatever stands
-- reply    {token, "1" where it is new}
local token, identity = unpack(redis.call('HMGET', KEYS[1], 'token', 'identity'))
if ARGV[3] ~= '1' and token and identity == ARGV[1] then
  return {token, '0'}
end
-- DEL comes first: a full Redis still allows it, and what a script does after a
-- first write as well (7.0). Should it not, no generation voids all seals too.
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'token', ARGV[2], 'identity', ARGV[1])
return {ARGV[2], '1'}
