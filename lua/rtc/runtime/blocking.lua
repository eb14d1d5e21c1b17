--- The runtime that waits by blocking: for a prompt and for scripts that have nothing else to do.

local native = require "rtc.native"

local blocking = {}

---@class rtc.Request  one try, as `rtc.engine` takes it
---@field url string
---@field method string|nil  default "POST"
---@field headers string[][]  { { name, value }, … }
---@field body string|nil  default ""
---@field timeout number|nil  seconds from now on, waiting for a free connection included
---@field try_timeout number|nil  seconds from when it goes out
---@field connect_timeout number|nil  seconds to connect, TLS included
---@field max_response integer|nil  bytes of the answer's body
---@field proxy string|nil  a proxy's URL; "" for none at all; default: what the environment says

---@class rtc.Exchange  what became of a request; answered, it has a `status`, and failed, a `kind`
---@field id integer
---@field sent boolean  the kernel took the request's last byte
---@field reused boolean  it went out on a connection used before
---@field elapsed number  seconds
---@field status integer|nil
---@field headers table<string, string>|nil  of the answer, by names in lower case; repeated ones joined by ", "
---@field body string|nil
---@field kind "network"|"timeout"|"cancelled"|"response"|nil
---@field code string|nil  "ConnectFailed", "Timeout" …
---@field message string|nil
---@field proxy_status integer|nil  of one that failed: what a proxy answered to its CONNECT

---@class rtc.Runtime
---@field request fun(req: rtc.Request): rtc.Exchange|nil, rtc.Exchange|rtc.Error|nil  answered; else nil and the failed
--- one, or the error of a request that the engine does not take
---@field sleep fun(seconds: number)
---@field now fun(): number  monotonic seconds
---@field spawn fun(fn: function)  here: runs `fn` at once, to its end

--- Makes a runtime with an engine of its own. Raises inside nginx's workers, which must not block.
---@param options table|nil  the engine's options
---@return rtc.Runtime
function blocking.new(options)
  local core = native.load("rtc.engine")
  local engine = core.new(options)
  local abandoned -- the exchange of a request that an error (Ctrl-C at a prompt) cut short

  local runtime = { now = core.now }

  function runtime.request(req)
    if abandoned then
      engine:cancel(abandoned) -- else it would go out now, although its caller was told of an error
    end
    local id, err = engine:submit(req)
    abandoned = id
    if not id then
      return nil, err
    end
    local exchange
    while not exchange or exchange.id ~= id do -- another's: cut short before its id was kept
      engine:step()
      exchange = engine:next()
      if not exchange then
        engine:wait()
      end
    end
    abandoned = nil
    if exchange.status then
      return exchange
    end
    return nil, exchange
  end

  function runtime.sleep(seconds)
    local wake = core.now() + seconds
    local left = seconds
    while left > 0 do
      engine:wait(left)
      engine:step() -- idle connections that a server closes would else wake us again and again
      left = wake - core.now()
    end
  end

  function runtime.spawn(fn)
    fn()
  end

  return runtime
end

return blocking
