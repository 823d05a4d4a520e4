-- The sources with undelivered messages, newest first.
-- KEYS[1]  state      KEYS[2]  offline      KEYS[3]  merged
-- ARGV[1]  at most so many
-- reply    {seal of state or "", seal of offline or "", {conversation, newest ID, packed, seal of its list or "", entries, …},
--           {member of merged, its seal among them, …}}
-- The lists' keys are made here, from KEYS[2] and so with its hash tag. A channel has
-- none, and its entries are not counted.
local seal = redis.call('HGET', KEYS[1], '~seal')
local sealed = redis.call('ZRANGEBYSCORE', KEYS[2], -1, -1)[1]
local out = {}
if seal and sealed then
  local sources = redis.call('ZREVRANGEBYSCORE', KEYS[2], '+inf', 0, 'WITHSCORES', 'LIMIT', 0, ARGV[1])
  for i = 1, #sources, 2 do
    local list = KEYS[2] .. ':' .. sources[i]
    out[#out + 1] = sources[i]
    out[#out + 1] = sources[i + 1]
    out[#out + 1] = redis.call('HGET', KEYS[1], sources[i]) or ''
    local channel = string.byte(sources[i]) == 99 -- c
    out[#out + 1] = not channel and redis.call('ZRANGEBYSCORE', list, -1, -1)[1] or ''
    out[#out + 1] = channel and 0 or redis.call('ZCOUNT', list, 0, '+inf')
  end
end
return {seal or '', sealed or '', out, redis.call('ZRANGE', KEYS[3], 0, -1)}
