-- Raises what one user's projection says about some conversations. Every number
-- only rises, so a replay changes nothing. With a seal it is one step of a rebuild.
--
-- KEYS[1]  state      KEYS[2]  convs      KEYS[3]  vers      KEYS[4]  offline
-- KEYS[5…] the offline list of each conversation, in the order of ARGV
-- ARGV[1]  generation to seal with; "" from writers
-- ARGV[2]  what the rebuild completes: "" nothing yet, "l" lists, "a" lists and
--          offline; writers "". In a rebuild of all, ARGV[3] is "a" in every step.
-- ARGV[3]  "a": the offline entries given are all there are
-- ARGV[4]  length of an offline list
-- ARGV[5…] for each conversation: its ID, 11 packed numbers, "id seq id seq …"
-- reply    the user's version
--
-- Numbers are compared as decimal strings, longer is greater: Lua would print
-- large doubles as 1e+15.
local state, convs, vers, offline = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local seal, completes, whole, keep = ARGV[1], ARGV[2], ARGV[3] == 'a', tonumber(ARGV[4])
local none = '0 0 0 0 0 0 0 0 0 0 0'
local pattern = '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+)$'
local n = #KEYS - 4

local function sealOf(key)
  return redis.call('ZRANGEBYSCORE', key, -1, -1)[1]
end
local function setSeal(key, member)
  redis.call('ZREMRANGEBYSCORE', key, -1, -1)
  redis.call('ZADD', key, -1, member)
end

local ask = {'~ver'}
for i = 1, n do ask[i + 1] = ARGV[2 + 3 * i] end
local have = redis.call('HMGET', state, unpack(ask))

-- A lost version starts again above all that were: by the clock in microseconds,
-- which no user's changes outrun.
local ver = tonumber(have[1])
if not ver then
  local t = redis.call('TIME')
  ver = tonumber(t[1]) * 1000000 + tonumber(t[2])
end
local before = ver

local fields, ranks, versions = {}, {}, {}
for i = 1, n do
  local conv, packed = ARGV[2 + 3 * i], ARGV[3 + 3 * i]
  local old = have[i + 1] or none
  local now = {string.match(old, pattern)}
  local delivered = now[5]
  local moved = not have[i + 1]
  local k = 0
  for v in string.gmatch(packed, '%d+') do
    k = k + 1
    local w = now[k]
    if #v > #w or (#v == #w and v > w) then
      now[k] = v
      moved = true
    end
  end
  if moved then
    ver = ver + 1
    fields[#fields + 1] = conv
    fields[#fields + 1] = table.concat(now, ' ')
    versions[#versions + 1] = string.format('%.0f', ver)
    versions[#versions + 1] = conv
  elseif seal ~= '' and not redis.call('ZSCORE', vers, conv) then
    ver = ver + 1
    versions[#versions + 1] = string.format('%.0f', ver)
    versions[#versions + 1] = conv
  end
  if now[2] ~= '0' and (moved or seal ~= '') then
    ranks[#ranks + 1] = now[2]
    ranks[#ranks + 1] = conv
  end

  -- The offline list: received messages above the delivered seq.
  local list, entries = KEYS[4 + i], ARGV[4 + 3 * i]
  local cleared = whole or now[5] ~= delivered
  if cleared then
    redis.call('ZREMRANGEBYSCORE', list, 0, now[5])
  end
  local add, newest = {}, nil
  if entries ~= '' then
    local d = now[5]
    for id, seq in string.gmatch(entries, '(%d+) (%d+)') do
      if #seq > #d or (#seq == #d and seq > d) then
        add[#add + 1] = seq
        add[#add + 1] = id
        if not newest or #id > #newest or (#id == #newest and id > newest) then newest = id end
      end
    end
  end
  if #add > 0 then
    if not whole and redis.call('EXISTS', list) == 0 and not redis.call('ZSCORE', offline, conv) then
      -- A complete index that does not name this source says that the new list,
      -- with these entries, is complete as well.
      local s = sealOf(offline)
      if s then redis.call('ZADD', list, -1, s) end
    end
    redis.call('ZADD', list, unpack(add))
    redis.call('ZADD', offline, 'GT', newest, conv)
    if redis.call('ZCARD', list) > keep + 64 then
      local first = sealOf(list) and 1 or 0
      redis.call('ZREMRANGEBYRANK', list, first, -keep - 1)
    end
  end
  if whole then
    redis.call('ZREMRANGEBYSCORE', list, -1, -1)
    local last = redis.call('ZREVRANGE', list, 0, 0)[1]
    if last then
      redis.call('ZADD', list, -1, '~' .. seal)
      redis.call('ZADD', offline, 'GT', last, conv)
    else
      redis.call('ZREM', offline, conv)
    end
  elseif cleared and #add == 0 then
    local s = sealOf(list)
    if s and redis.call('ZCARD', list) == 1 and s == sealOf(offline) then
      redis.call('DEL', list)
      redis.call('ZREM', offline, conv)
    end
  end
end

if ver ~= before or not have[1] then
  fields[#fields + 1] = '~ver'
  fields[#fields + 1] = string.format('%.0f', ver)
end
if #versions > 0 then redis.call('ZADD', vers, unpack(versions)) end
if #ranks > 0 then redis.call('ZADD', convs, 'GT', unpack(ranks)) end
if #fields > 0 then redis.call('HSET', state, unpack(fields)) end
if completes ~= '' then
  setSeal(convs, '~' .. seal)
  setSeal(vers, '~' .. seal)
  if completes == 'a' then setSeal(offline, '~' .. seal) end
  redis.call('HSET', state, '~seal', seal)
end
return string.format('%.0f', ver)
