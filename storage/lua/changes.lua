-- What moved in one user's conversations since a version, seen at one instant.
-- KEYS[1]  state      KEYS[2]  vers      KEYS[3]  settings      KEYS[4]  merged
-- ARGV[1]  version    ARGV[2]  at most so many
-- reply    {seal of state or "", seal of vers or "", version, {conversation, version, …}, {packed, …},
--           seal of settings or "", their open changes or "", {packed settings or "", …},
--           {member of merged, its seal among them, …}}
local seal, ver = unpack(redis.call('HMGET', KEYS[1], '~seal', '~ver'))
local sealed = redis.call('ZRANGEBYSCORE', KEYS[2], -1, -1)[1]
local set, open = unpack(redis.call('HMGET', KEYS[3], '~seal', '~open'))
set, open = set or '', open or ''
local merged = redis.call('ZRANGE', KEYS[4], 0, -1)
if not seal or not sealed or not ver then
  return {seal or '', sealed or '', ver or '0', {}, {}, set, open, {}, merged}
end
if ver == ARGV[1] then
  return {seal, sealed, ver, {}, {}, set, open, {}, merged}
end
local moved = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[2])
local ask = {}
for i = 1, #moved, 2 do ask[#ask + 1] = moved[i] end
local packed, settings = {}, {}
if #ask > 0 then
  packed = redis.call('HMGET', KEYS[1], unpack(ask))
  settings = redis.call('HMGET', KEYS[3], unpack(ask))
end
for i = 1, #packed do
  packed[i] = packed[i] or ''
  settings[i] = settings[i] or ''
end
return {seal, sealed, ver, moved, packed, set, open, settings, merged}
