-- What moved in one user's conversations since a version, seen at one instant.
-- KEYS[1]  state      KEYS[2]  vers
-- ARGV[1]  version    ARGV[2]  at most so many
-- reply    {seal of state or "", seal of vers or "", version, {conversation, version, …}, {packed, …}}
local seal, ver = unpack(redis.call('HMGET', KEYS[1], '~seal', '~ver'))
local sealed = redis.call('ZRANGEBYSCORE', KEYS[2], -1, -1)[1]
if not seal or not sealed or not ver then
  return {seal or '', sealed or '', ver or '0', {}, {}}
end
if ver == ARGV[1] then
  return {seal, sealed, ver, {}, {}}
end
local moved = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[2])
local ask = {}
for i = 1, #moved, 2 do ask[#ask + 1] = moved[i] end
local packed = {}
if #ask > 0 then packed = redis.call('HMGET', KEYS[1], unpack(ask)) end
for i = 1, #packed do packed[i] = packed[i] or '' end
return {seal, sealed, ver, moved, packed}
