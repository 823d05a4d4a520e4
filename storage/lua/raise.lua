-- Raises what one user's projection says about some conversations. Every number
-- only rises, so a replay changes nothing. With a seal it is one step of a rebuild.
--
-- KEYS[1]  state      KEYS[2]  convs      KEYS[3]  vers      KEYS[4]  offline
-- KEYS[5]  merged
-- ARGV[1]  generation to seal with; "" from writers
-- ARGV[2]  what the rebuild completes: "" nothing yet, "l" lists, "a" lists and
--          offline; writers "". In a rebuild of all, ARGV[3] is "a" in every step.
-- ARGV[3]  "a": the offline entries given are all there are
-- ARGV[4]  length of an offline list
-- ARGV[5]  in a rebuild, the field ~void of the state as it was before MySQL was read
-- ARGV[6…] for each conversation: its ID, 13 packed numbers (a channel: 15),
--          "id seq id seq …"
-- reply    the user's version; nil from a rebuild begun before the last drop (drop.lua)
--
-- The offline lists' keys are made here, from KEYS[4] and so with its hash tag.
-- Numbers are compared as decimal strings, longer is greater: Lua would print
-- large doubles as 1e+15.
local call, match, byte = redis.call, string.match, string.byte
local state, convs, vers, offline, merged = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local seal, completes, whole, keep = ARGV[1], ARGV[2], ARGV[3] == 'a', tonumber(ARGV[4])
local pattern = '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+)$'
local wider = '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+)$'
local n = (#ARGV - 5) / 3

if seal ~= '' and (call('HGET', state, '~void') or '') ~= ARGV[5] then return false end

-- What was written before there were so many has fewer; the rest is zero.
local function numbers(packed, channel)
  local p = channel and wider or pattern
  for _ = 1, 3 do
    local all = {match(packed, p)}
    if all[1] then return all end
    packed = packed .. ' 0 0'
  end
end
local function above(v, w) return #v > #w or (#v == #w and v > w) end
local function sealOf(key)
  return call('ZRANGEBYSCORE', key, -1, -1)[1]
end
local function setSeal(key, member)
  call('ZREMRANGEBYSCORE', key, -1, -1)
  call('ZADD', key, -1, member)
end

-- The offline list of a one-to-one: received messages above the delivered seq, and
-- above the floor: it was deleted up to there.
local function index(conv, entries, now, acked)
  local list, delivered = offline .. ':' .. conv, now[5]
  if above(now[8], delivered) then delivered = now[8] end
  local clear = whole or (acked and delivered ~= '0')
  if clear then
    call('ZREMRANGEBYSCORE', list, 0, delivered)
  end
  local add, newest = {}, nil
  if entries ~= '' then
    for id, seq in string.gmatch(entries, '(%d+) (%d+)') do
      if above(seq, delivered) then
        add[#add + 1] = seq
        add[#add + 1] = id
        if not newest or above(id, newest) then newest = id end
      end
    end
  end
  if newest then
    local added = call('ZADD', list, unpack(add))
    if call('ZADD', offline, 'GT', newest, conv) == 1 and not whole and call('ZCARD', list) == added then
      -- A complete index that did not name this source says that the new list, with
      -- these entries, is complete as well.
      local s = sealOf(offline)
      if s then call('ZADD', list, -1, s) end
    end
    -- Its length is asked for now and then: each 64 seqs, or after more than as many.
    if #add >= 128 or tonumber(add[#add - 1]) % 64 < #add / 2 then
      if call('ZCARD', list) > keep + 64 then
        local first = sealOf(list) and 1 or 0
        call('ZREMRANGEBYRANK', list, first, -keep - 1)
      end
    end
  end
  if whole then
    call('ZREMRANGEBYSCORE', list, -1, -1)
    local last = call('ZREVRANGE', list, 0, 0)[1]
    if last then
      call('ZADD', list, -1, '~' .. seal)
      call('ZADD', offline, 'GT', last, conv)
    else
      call('ZREM', offline, conv)
    end
  elseif clear and not newest and call('ZCARD', list) == 1 then
    local s = sealOf(list)
    if s and s == sealOf(offline) then
      call('DEL', list)
      call('ZREM', offline, conv)
    end
  end
end

-- A channel is a source while what the user may see reaches above what is settled:
-- im.ConversationState.Settled. Of one that is merged at read its end knows, unless
-- the user has left.
local function derive(conv, now)
  local member = not above(now[7], now[14])
  local atEnd = member and now[15] ~= '0'
  if atEnd then
    call('ZADD', merged, 0, conv)
  elseif now[15] ~= '0' then
    call('ZREM', merged, conv)
  end
  local top = now[1]
  if not member and above(top, now[7]) then top = now[7] end
  if not atEnd and above(top, now[5]) and above(top, now[8]) and above(top, now[4]) and not above(now[6], top) then
    call('ZADD', offline, 'GT', now[2], conv)
  else
    call('ZREM', offline, conv)
  end
end

local ask = {'~ver'}
for i = 1, n do ask[i + 1] = ARGV[3 + 3 * i] end
local have = call('HMGET', state, unpack(ask))

-- A lost version starts again above all that were: by the clock in microseconds,
-- which no user's changes outrun.
local ver = tonumber(have[1])
local version = have[1]
if not ver then
  local t = call('TIME')
  ver = tonumber(t[1]) * 1000000 + tonumber(t[2])
  version = string.format('%d', ver)
end

local fields, ranks, versions = {}, {}, {}
for i = 1, n do
  local conv, old = ARGV[3 + 3 * i], have[i + 1]
  local channel = byte(conv) == 99 -- c
  local now = numbers(old or ARGV[4 + 3 * i], channel)
  local moved, acked = not old, not old
  if old then
    local new = numbers(ARGV[4 + 3 * i], channel)
    for k = 1, #now do
      local v, w = new[k], now[k]
      if v ~= w and (#v > #w or (#v == #w and v > w)) then
        now[k] = v
        moved = true
        if k == 5 or k == 8 then acked = true end
      end
    end
  end
  if moved then
    fields[#fields + 1] = conv
    fields[#fields + 1] = table.concat(now, ' ')
  end
  if moved or (seal ~= '' and not call('ZSCORE', vers, conv)) then
    ver = ver + 1
    version = string.format('%d', ver)
    versions[#versions + 1] = version
    versions[#versions + 1] = conv
  end
  if now[2] ~= '0' and (moved or seal ~= '') then
    ranks[#ranks + 1] = now[2]
    ranks[#ranks + 1] = conv
  end
  if not channel then
    index(conv, ARGV[5 + 3 * i], now, acked)
  elseif moved or seal ~= '' then
    derive(conv, now)
  end
end

if version ~= have[1] then
  fields[#fields + 1] = '~ver'
  fields[#fields + 1] = version
end
if #versions > 0 then call('ZADD', vers, unpack(versions)) end
if #ranks > 0 then call('ZADD', convs, 'GT', unpack(ranks)) end
if #fields > 0 then call('HSET', state, unpack(fields)) end
if completes ~= '' then
  setSeal(convs, '~' .. seal)
  setSeal(vers, '~' .. seal)
  setSeal(merged, '~' .. seal)
  if completes == 'a' then setSeal(offline, '~' .. seal) end
  call('HSET', state, '~seal', seal)
  call('HDEL', state, '~void')
end
return version
