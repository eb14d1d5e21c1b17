--- What a call that the service accepted gives back.

local text = require "rtc.text"

local receipt = {}

---@class rtc.Receipt  the service accepted the message; whether anyone got it, it does not say
---@field request_id string|nil
---@field action string
---@field version string
---@field region string
---@field http_status integer
---@field attempts integer  tries made
---@field elapsed number  seconds, for the whole call
---@field message string|nil  the service's own word: "Success"
---@field result any  of `client:call`: what the answer's JSON holds as Result; null is cjson's `cjson.null`
---@field body string|nil  of `client:call`: the answer's JSON as it came, for what cjson can't keep: numbers of more
--- than 14 digits, lists without entries
---@field possible_duplicate boolean|nil  an earlier try may have been carried out, too (`retry.on_unknown`)
---@field parts rtc.Part[]|nil  of a list of receivers that was split: the receipt of each part

---@class rtc.Part
---@field to string[]  the receivers of this part
---@field receipt rtc.Receipt|nil
---@field err rtc.Error|nil

local metatable = { __name = "rtc.receipt" }

--- One line for a person to read.
function metatable:__tostring()
  local facts = { ("HTTP %d"):format(self.http_status), text.printable(self.region) }
  if self.parts and #self.parts > 1 then
    facts[#facts + 1] = ("%d parts"):format(#self.parts)
  end
  if self.attempts > (self.parts and #self.parts or 1) then
    facts[#facts + 1] = ("%d tries"):format(self.attempts)
  end
  if self.possible_duplicate then
    facts[#facts + 1] = "possibly twice"
  end
  if self.request_id then
    facts[#facts + 1] = "request " .. text.printable(self.request_id)
  end
  return ("%s: accepted in %.0f ms (%s)"):format(self.action, self.elapsed * 1000, table.concat(facts, ", "))
end

--- Makes `fields` (a fresh table) a receipt.
---@param fields table  fields of rtc.Receipt
---@return rtc.Receipt
function receipt.new(fields)
  return setmetatable(fields, metatable)
end

return receipt
