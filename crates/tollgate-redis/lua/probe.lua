-- Tries commands, to find out whether the user has the rights for them. Redis checks the right first, whatever else is
-- wrong with the command.
--
-- KEYS[1]  a key that nobody uses.
-- ARGV     for each command the number of its words, and the words.
-- Answer   for each command that failed, its name and the error.

local answer, at = {}, 1
while ARGV[at] do
  local words = tonumber(ARGV[at])
  local name = ARGV[at + 1]
  local said = redis.pcall(unpack(ARGV, at + 1, at + words))
  if type(said) == 'table' and said.err then
    answer[#answer + 1] = name
    answer[#answer + 1] = said.err
  end
  at = at + words + 1
end
return answer
