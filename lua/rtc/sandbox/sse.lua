--- Server-Sent Events (WHATWG HTML, section 9.2), as much as the sandbox writes and reads.
local sse = {}

--- A comment: receivers ignore it, a dead connection does not.
sse.keep_alive = ": keep-alive\n\n"

--- One event.
---@param name string
---@param data string one line (JSON never holds a raw line break)
---@return string
function sse.event(name, data)
  return "event: " .. name .. "\ndata: " .. data .. "\n\n"
end

---@class rtc.sandbox.Reader
local reader = {}
reader.__index = reader

--- A reader of events out of bytes that come in pieces of any size.
---@return rtc.sandbox.Reader
function sse.reader()
  return setmetatable({ buffer = "", position = 1 }, reader)
end

--- Gives the reader what came.
---@param bytes string
function reader:feed(bytes)
  self.buffer = self.buffer:sub(self.position) .. bytes
  self.position = 1
end

--- The next whole event; comments are passed over.
---@return {name: string, data: string}|nil event nil when more bytes are needed
function reader:next()
  while true do
    -- A position, and not a cut-off buffer: thousands of events may come in one piece.
    local first, last = self.buffer:find("\n\n", self.position, true)
    if not first then
      return nil
    end
    local name, data = self.buffer:sub(self.position, first - 1):match("^event: ([^\n]*)\ndata: ([^\n]*)$")
    self.position = last + 1
    if name then
      return { name = name, data = data }
    end
  end
end

return sse
