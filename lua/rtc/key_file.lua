--- Reads the files in which the official SDKs and the `volc` command keep keys: ~/.volc/credentials and ~/.volc/config.
---
--- What is wrong with one is said without a word of what is in it: it may be the secret.

local json = require("cjson").new()

local key_file = {}

local MOST = 65536 -- bytes; some hundred are usual, and little else than a mistake has more

--- What the system says of a path where nothing is. HOME=/dev/null, which services have, gives "Not a directory".
local ENOENT, ENOTDIR = 2, 20

--- The whole of a file; nothing when there is none.
---@return string|nil bytes
---@return string|nil problem
local function read(path)
  local file, why, number = io.open(path, "rb")
  if not file and (number == ENOENT or number == ENOTDIR) then
    return nil
  elseif not file then
    return nil, ("cannot be read (%s)"):format(why:match("[^: ][^:]*$")) -- without the path before it
  end
  local bytes, problem = file:read(MOST + 1)
  file:close()
  if not bytes and problem then
    return nil, ("cannot be read (%s)"):format(problem)
  elseif bytes and #bytes > MOST then
    return nil, ("has more than %d bytes, too many for keys"):format(MOST)
  end
  return ((bytes or ""):gsub("^\239\187\191", "")) -- the mark with which some editors begin UTF-8
end

local function trimmed(line)
  return line:gsub("^%s+", ""):match("^.*%S") or ""
end

--- Takes a line of the section [default] in.
---@return string|nil problem
local function add_entry(entries, line)
  local equals = line:find("=", 1, true)
  local name = equals and trimmed(line:sub(1, equals - 1)):lower()
  if not equals then
    return "has neither `name = value` nor a comment"
  elseif entries[name] then
    return "has a name for the second time"
  end
  entries[name] = trimmed(line:sub(equals + 1))
end

--- The entries of the section [default], by their names in lower case. Other sections are not looked at.
---@return table<string, string>|nil
---@return string|nil problem
local function parse_ini(bytes)
  local entries, section, number = {}, nil, 0
  for whole in (bytes .. "\n"):gmatch("([^\n]*)\n") do
    local line = trimmed(whole)
    number = number + 1
    local header, problem = line:match("^%[(.*)%]$"), nil
    if header then
      section = header
    elseif line ~= "" and not line:find("^[#;]") then
      if not section then
        problem = "has something before the first section (keys belong under [default])"
      elseif section == "default" then
        problem = add_entry(entries, line)
      end
    end
    if problem then
      return nil, ("%s, in line %d"):format(problem, number)
    end
  end
  return entries
end

--- Reads an INI file, as volc-sdk-python and the `volc` command do.
---@param path string
---@return table<string, string>|nil entries  of its section [default], by names in lower case; nil alone: no such file
---@return string|nil problem  "is …", "has …"
function key_file.ini(path)
  local bytes, problem = read(path)
  if not bytes then
    return nil, problem
  end
  return parse_ini(bytes)
end

--- Reads a JSON file, as the older official SDKs do. The `volc` command keeps its own settings under the same path, as
--- INI and without keys: such a file counts as none.
---@param path string
---@return table<string, any>|nil members  nil alone: no such file
---@return string|nil problem  "is …", "has …"
function key_file.json(path)
  local bytes, problem = read(path)
  if not bytes then
    return nil, problem
  end
  local parsed, value = pcall(json.decode, bytes)
  if parsed and type(value) == "table" then
    return value
  elseif parsed then
    return nil, "is JSON, but not an object"
  elseif bytes:find("[default]", 1, true) then
    return nil
  end
  local at = tostring(value):match("at character %d+")
  return nil, at and ("is not JSON (%s)"):format(at) or "is not JSON"
end

return key_file
