--- The command line: what may be written on it, and how it ends.

local api = require "rtc.api"
local core = require("rtc.native").load("rtc.core")
local terminal = require "rtc.cli.terminal"
local utc = require "rtc.utc"

local cli = {}

local EPILOG = "Environment: VOLC_ACCESSKEY and VOLC_SECRETKEY (the keys; `rtc credentials` shows where else they are "
  .. "looked for), RTC_APP_ID and RTC_FROM (defaults of --app and --from), RTC_ENDPOINT (default of --endpoint). With "
  .. "the endpoint \"sandbox\" the sandbox's ready-made keys are used instead.\n\n"
  .. "Exit codes: 0 done; 1 refused or failed, and certainly not delivered; 2 wrong usage; 3 the outcome is not known: "
  .. "the message may have been delivered; 130 interrupted (Ctrl-C): so it may, if standard error says so."

--- A converter for argparse: whole numbers from `least` to `most`.
local function whole(name, least, most)
  return function(text)
    local number = text:find("^[0-9]+$") and #text <= 15 and tonumber(text)
    if number and number >= least and number <= most then
      return math.floor(number)
    end
    return nil, ("%s: '%s' is not a whole number from %d to %d"):format(name, text, least, most)
  end
end

--- A converter for argparse: a time in Unix seconds, or as a request's X-Date has it.
local function time(text)
  local seconds = whole("--time", 0, 253402300799)(text) or utc.parse_basic(text)
  return seconds, not seconds
    and ("--time: '%s' is neither Unix seconds nor a time like 20250102T030405Z"):format(text) or nil
end

--- argparse itself would not notice that nobody can read its help.
local function add_help(parser)
  parser:add_help { action = function()
    terminal.write(parser:get_help(), "\n")
    terminal.finish(terminal.DONE)
  end }
end

--- It may stand before the command and after it. argparse lets the second place forget what the first one said, unless
--- each has a name of its own.
local function add_endpoint(parser, target)
  parser:option("--endpoint"):target(target):argname("<endpoint>")
    :description('Where to: "https://host[:port]", "byteplus" or "singapore"; "sandbox[:PORT]" on this machine. '
      .. "Default: RTC_ENDPOINT.")
end

--- As a sentence of the help.
local function sentence(phrase)
  return phrase:sub(1, 1):upper() .. phrase:sub(2):gsub("`", "") .. "."
end

--- An option for a field; `required` by the command itself.
local function add_field(command, field, required)
  local option = field.type == "boolean" and command:flag(field.option) or command:option(field.option)
  local description = sentence(field.summary)
  if field.type == "ids" then
    option:argname("<id,…>"):count("*")
    command:option("--to-file"):argname("<path>"):description("Take receivers from a file, an ID a line.")
    description = ("%s At most %d; given several times, or with commas."):format(description, field.max)
  elseif field.type == "id" then
    option:argname("<id>"):count(required and not field.variable and 1 or "?")
    description = field.variable and ("%s Default: %s."):format(description, field.variable) or description
  end
  option:description(description)
end

--- What every command has that speaks to the service.
local function add_service(command)
  add_help(command)
  add_endpoint(command, "command_endpoint")
  command:option("--api-version"):argname("<date>"):description("Of the API. Default: " .. api.default_version .. ".")
  command:option("--file"):argname("<path>"):description("Take it from a file, byte for byte.")
end

local function add_call_options(command)
  command:option("--timeout"):argname("<seconds>"):convert(tonumber):description("For the whole call. Default: 10.")
  command:flag("--json"):description("Print the receipt, or the error, as a JSON object on standard output.")
end

local TEXT = 'The message. "-", or none: standard input to its end, byte for byte; with "-" it may be empty.'

local function add_message(parser, action)
  local command = parser:command(action.command):summary(sentence("send " .. action.summary))
  add_service(command)
  add_call_options(command)
  command:argument("text"):args("?"):description(TEXT)
  for _, field in ipairs(action.fields) do
    if field.option then
      add_field(command, field, true)
    end
    if field.type == "ids" then
      command:flag("--split"):description("Send a longer list in several calls.")
    end
  end
end

local function add_call(parser)
  local command = parser:command("call"):summary("Call any action of the service, and print its result.")
  add_service(command)
  add_call_options(command)
  command:argument("action"):description("The action, like BanRoomUser.")
  command:argument("text"):args("?"):description('The body, JSON. "-": from standard input. Default: {}.')
  command:option("--method"):argname("<method>"):description("POST or GET. Default: POST.")
  command:option("--query"):argname("<name=value>"):count("*"):description("A parameter of the URL; any number.")
end

--- The options of all message actions: the one that is signed says which of them it takes.
local function add_sign(parser)
  local command = parser:command("sign"):summary("Show how a message would be signed, and send nothing.")
  add_service(command)
  command:argument("text"):args("?"):description(TEXT)
  command:option("--action"):argname("<action>"):default("SendRoomUnicast")
    :description(("The message's action: %s. Default: SendRoomUnicast."):format(table.concat(api.action_names, ", ")))
  local seen = {}
  for i = #api.messages, 1, -1 do -- the list of receivers stands for the single one, too
    for _, field in ipairs(api.messages[i].fields) do
      if field.option and not seen[field.option] then
        seen[field.option] = true
        add_field(command, field, false)
      end
    end
  end
  command:option("--time"):argname("<time>"):convert(time)
    :description("Sign as of this time: Unix seconds, or an X-Date like 20250102T030405Z. Default: now.")
end

local function add_sandbox(parser)
  local command = parser:command("sandbox"):summary("Run the service on this machine, for trying out and for tests.")
  add_help(command)
  command:option("--host"):argname("<address>"):description("Address to listen on. Default: 127.0.0.1.")
  command:option("--port"):argname("<number>"):convert(whole("--port", 0, 65535))
    :description("Port to listen on; 0: any free one. Default: 8790.")
end

local function add_listen(parser)
  local command = parser:command("listen"):summary("Receive from the sandbox: print each message that comes.")
  add_help(command)
  add_endpoint(command, "command_endpoint")
  command:option("--room"):argname("<id>")
    :description("The room to join. Default: none; then only what is sent by SendUnicast comes.")
  command:option("--user"):count(1):argname("<id>"):description("The user ID to log in with.")
  command:option("--app"):argname("<id>"):description("The app's ID. Default: RTC_APP_ID, or the sandbox's.")
  command:option("--count"):argname("<n>"):convert(whole("--count", 1, 1000000000))
    :description("End after so many messages.")
  command:mutex(
    command:flag("--json"):description("Print a JSON object a line; a binary message in base64."),
    command:flag("--raw"):description("Print the messages' bytes and nothing else; what came goes to standard error.")
  )
end

local function add_credentials(parser)
  local command = parser:command("credentials"):summary("Show where the keys come from, and send nothing.")
  add_help(command)
  add_endpoint(command, "command_endpoint")
  command:flag("--json"):description("Print a JSON object a line.")
end

local function make_parser(argparse)
  local parser = argparse("rtc", "Signs and sends Volcengine RTC messages."):epilog(EPILOG)
  add_help(parser)
  parser:usage_max_width(100):help_max_width(100)
  parser:command_target("command")
  parser:flag("--version"):description("Print the version."):action(function()
    terminal.write(core.version, "\n")
    terminal.finish(terminal.DONE)
  end)
  add_endpoint(parser, "endpoint")
  add_sandbox(parser)
  add_listen(parser)
  for _, action in ipairs(api.messages) do
    add_message(parser, action)
  end
  add_call(parser)
  add_sign(parser)
  add_credentials(parser)
  parser.error = function(at, problem)
    io.stderr:write("rtc: ", terminal.harmless(problem), "\n", at:get_usage(), "\n")
    terminal.finish(terminal.USAGE)
  end
  return parser
end

--- A library of others, or how to get it.
local function need(name, rock)
  local found, module = pcall(require, name)
  if not found then
    terminal.finish(terminal.FAILED, ("the Lua module %s is missing: apt-get install lua-%s (Debian), or luarocks "
      .. "install %s"):format(name, name, rock))
  end
  return module
end

local function run(arguments, progress)
  local given = make_parser(need("argparse", "argparse")):parse(arguments)
  given.endpoint = given.command_endpoint or given.endpoint
  if given.command ~= "sandbox" then -- which names all that it needs at once
    need("cjson", "lua-cjson")
  end
  for _, action in ipairs(api.messages) do
    if action.command == given.command then
      return require "rtc.cli.send"(action, given, progress)
    end
  end
  return require("rtc.cli." .. given.command)(given, progress)
end

--- How a command ends that raised: quietly on Ctrl-C, else with one line that says why. Whatever it was, it may have
--- come after the message left.
local function judge(raised, progress)
  local ending = terminal.ending(raised)
  if ending then
    if ending.message then
      terminal.complain(ending.message)
    end
    return ending.code
  elseif type(raised) == "string" and raised:find("interrupted!$") then
    if progress.sending then
      terminal.complain("interrupted: the message may have been delivered")
    end
    return 130
  end
  terminal.complain("this should not happen, please report it: " .. tostring(raised))
  return progress.sending and terminal.UNKNOWN or terminal.FAILED
end

--- Runs a command line.
---@param arguments string[]
---@return integer exit code
function cli.main(arguments)
  local progress = {}
  local ok, result = pcall(run, arguments, progress)
  return ok and result or judge(result, progress)
end

return cli
