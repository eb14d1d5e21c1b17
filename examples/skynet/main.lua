-- Tells 100 users something by the notifier, as four callers at once, and posts a hundred messages more.
local skynet = require "skynet"
require "skynet.manager" -- skynet.abort

local CALLERS, EACH = 4, 25

skynet.start(function()
  local notifier = skynet.newservice "notifier"
  local accepted, failed, running = 0, 0, CALLERS
  local me = coroutine.running()

  for caller = 1, CALLERS do
    skynet.fork(function()
      for i = 1, EACH do
        local user = ("user%d-%d"):format(caller, i)
        local ok, outcome, why = skynet.call(notifier, "lua", "tell", "42", user, "your turn")
        accepted, failed = accepted + (ok and 1 or 0), failed + (ok and 0 or 1)
        if not ok then
          skynet.error(outcome, why)
        end
      end
      running = running - 1
      if running == 0 then
        skynet.wakeup(me)
      end
    end)
  end
  skynet.wait(me)
  print(("%d accepted, %d failed"):format(accepted, failed))

  for i = 1, 100 do
    skynet.send(notifier, "lua", "post", "42", "user" .. i, "the game is over")
  end
  local drained, why = skynet.call(notifier, "lua", "close")
  print(drained and "all sent" or why)
  skynet.abort()
end)
