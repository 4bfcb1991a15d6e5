-- Changes what one admission was charged.

local change_tally
-- The state of a log, and 32 entries: what is changed most often is among the newest.
local NEWEST_FROM = '-492'

-- The commands that change what the limit of `key` was charged, after everything is read; nil if the admission is not found,
-- because it has left, was reset or changed, or if the usage would be above MOST_TOTAL. With those of a log comes its new state.
--
-- The change is encoded at `at` of `text`: for a log the number and the timestamp of the admission, for a counter the start of
-- its window or another time in it, for a token bucket the time of the admission, for a calendar the start of its period; then the old and the new
-- cost, the usage right after the admission, and the length of the window, or the end of the period.
local function change(key, text, at)
  local kind, number, stamp, old, new, used_then, of_s, of_ns = unpack('<BdddddI4I4', text, at)
  local newest = call('GETRANGE', key, NEWEST_FROM, '-1')
  local state = #newest > STATE_BYTES and newest:sub(-STATE_BYTES) or newest
  local tag = #state >= 4 and unpack('<I4', state)
  if kind == 1 and (tag == UNIT or tag == WEIGHTED) then
    return change_log(key, newest, state, tag, number, stamp, old, new)
  end
  if state ~= '' and tag ~= UNIT and tag ~= WEIGHTED and tag ~= COUNTER and tag ~= BUCKET and tag ~= CALENDAR then
    foreign(key)
  end
  if kind == 1 then return nil end
  if not change_tally then
    local _
    _, _, _, change_tally = make_tallies(now_s, now_ns)
  end
  return change_tally(kind, key, state, tag, number, stamp, old, new, used_then, of_s, of_ns)
end

local function apply(commands)
  for i = 1, #commands do call(spread(commands[i])) end
end
