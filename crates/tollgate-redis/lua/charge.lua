-- Decides checks, each at one moment.
--
-- KEYS     for each check: one key per limit, then that of the request id, if it has one.
-- ARGV[1]  packed by `wire.rs`: whether a test sets the time, the number of checks, the periods of calendars that the
--          checks need, and the limits of each check.
-- Answer   for one check: one packed string, which `wire.rs` parses. For several: such a string each, or `E` and an
-- error. If a period does not contain the time, nothing is decided: `P` and the time.

if checks == 1 then return decide(checks_at, 0) end
local answers, at, before = {}, checks_at, 0
for i = 1, checks do
  local bytes, keys = unpack('<I4I2', request, at)
  -- If one check causes an error, the others are still decided.
  local done, answer = pcall(decide, at + 6, before)
  answers[i] = done and answer or 'E' .. (type(answer) == 'table' and answer.err or tostring(answer))
  at, before = at + 6 + bytes, before + keys
end
for key in next, kept_logs do write_out(key) end
return answers
