-- Merges what one user has set for some conversations: of two the higher version
-- holds, so a replay changes nothing. With a seal it is one step of a rebuild.
-- KEYS[1]  state      KEYS[2]  settings      KEYS[3]  vers
-- ARGV[1]  generation to seal with; "" from writers and in all steps but the last
-- ARGV[2]  the writer's note to take away, or ""
-- ARGV[3]  in a rebuild, when it began to read MySQL (Unix ms): notes whose time was
--          over by then are done with; else 0
-- ARGV[4]  in a rebuild, as ARGV[5] of raise.lua; else "-"
-- ARGV[5…] for each conversation: its ID, six packed numbers
-- reply    nothing; nil as of raise.lua
local call, match = redis.call, string.match
local state, settings, vers = KEYS[1], KEYS[2], KEYS[3]

if ARGV[4] ~= '-' and (call('HGET', state, '~void') or '') ~= ARGV[4] then return false end

local ask = {'~open'}
for i = 5, #ARGV, 2 do ask[#ask + 1] = ARGV[i] end
local have = call('HMGET', settings, unpack(ask))

local fields, moved = {}, {}
for i = 5, #ARGV, 2 do
  local old, new = have[(i - 1) / 2], ARGV[i + 1]
  local v, w = match(new, '^%d+'), old and match(old, '^%d+')
  if not w or #v > #w or (#v == #w and v > w) then
    fields[#fields + 1] = ARGV[i]
    fields[#fields + 1] = new
    moved[#moved + 1] = ARGV[i]
  end
end

if have[1] then
  local kept = {}
  for token, due in string.gmatch(have[1], '(%S+) (%d+)') do
    if token ~= ARGV[2] and tonumber(due) > tonumber(ARGV[3]) then
      kept[#kept + 1] = token .. ' ' .. due
    end
  end
  if #kept == 0 then
    call('HDEL', settings, '~open')
  else
    fields[#fields + 1] = '~open'
    fields[#fields + 1] = table.concat(kept, ' ')
  end
end

if #moved > 0 then
  -- A lost version starts again above all that were: see raise.lua.
  local ver = tonumber(call('HGET', state, '~ver'))
  if not ver then
    local t = call('TIME')
    ver = tonumber(t[1]) * 1000000 + tonumber(t[2])
  end
  local versions = {}
  for i, conv in ipairs(moved) do
    versions[2 * i - 1] = string.format('%d', ver + i)
    versions[2 * i] = conv
  end
  call('HSET', state, '~ver', string.format('%d', ver + #moved))
  call('ZADD', vers, unpack(versions))
end
if ARGV[1] ~= '' then
  fields[#fields + 1] = '~seal'
  fields[#fields + 1] = ARGV[1]
end
if #fields > 0 then call('HSET', settings, unpack(fields)) end
return 1
