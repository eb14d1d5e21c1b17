local core = require "rtc.core"
local text = require "rtc.text"
local compat = require "spec.support.compat"

local u = compat.unicode

describe("text that is made printable", function()
  for given, shown in pairs {
    ["plain \\ and \"quoted\""] = "plain \\ and \"quoted\"", ["é 你好 😀"] = "é 你好 😀",
    ["\27[2J\r\n\t\0\127"] = "\\x1B[2J\\x0D\\x0A\\x09\\x00\\x7F", ["é\255"] = "\\xC3\\xA9\\xFF",
    [u "a<U+80><U+9B>2J<U+9F><U+A0>"] = u "a\\u{80}\\u{9B}2J\\u{9F}<U+A0>",
    [u "<U+61C><U+200D><U+200E><U+200F><U+2010>"] = u "\\u{61C}<U+200D>\\u{200E}\\u{200F}<U+2010>",
    [u "<U+2027><U+2028><U+2029><U+202A><U+202E><U+202F>"] = u "<U+2027>\\u{2028}\\u{2029}\\u{202A}\\u{202E}<U+202F>",
    [u "<U+2065><U+2066><U+2069><U+206A><U+FEFF>"] = u "<U+2065>\\u{2066}\\u{2069}<U+206A>\\u{FEFF}",
  } do
    it("shows " .. shown, function()
      assert.equal(shown, text.printable(given))
      assert.equal(shown, text.printable(shown)) -- so that it matters not how often
    end)
  end

  it("can be quoted, so that its bytes can be told", function()
    assert.equal([["a\\b\"c\n\r\t\x1B\u{202E}é"]], text.quoted(u "a\\b\"c\n\r\t\27<U+202E>é"))
    assert.equal([["\xFF"]], text.quoted("\255"))
  end)

  it("can be JSON", function()
    assert.equal([["a\u0080\u202eé"]], text.without_commands(u '"a<U+80><U+202E>é"', "\\u%04x"))
  end)

  it("is cut between characters, and says how long it was", function()
    assert.equal("éé", text.excerpt("éé", 4))
    assert.equal("éé… (6 bytes)", text.excerpt("ééé", 5))
    assert.is_nil(core.utf8_error(text.excerpt(("😀"):rep(99), 41)))
  end)

  it("names what is no string, whatever it does when it is printed", function()
    local hostile = setmetatable({}, { __tostring = function() error("never") end, __name = ("x"):rep(999) })
    assert.same({ "a table", "1", "true", "a function", "a\\x0Ab" }, { text.name(hostile), text.name(1),
      text.name(true), text.name(print), text.name("a\nb") })
    assert.is_true(#text.name(("x"):rep(999)) < 100)
  end)
end)

describe("text without a secret", function()
  local token = "STS2eyJM/abcDEF+ghi" .. ("0123456789/+abcdefghijklmnopq"):rep(13) .. "=="

  local function percent(char)
    return ("%%%02X"):format(char:byte())
  end
  for name, echo in pairs {
    ["as it is"] = token, ["cut at its end"] = token:sub(1, 50), ["cut at its beginning"] = token:sub(-50),
    ["out of its middle"] = token:sub(20, 40), ["in JSON"] = token:gsub("/", "\\/"),
    ["in JSON in JSON"] = token:gsub("/", "\\\\\\/"),
    ["in careful JSON"] = token:gsub("[=/+]", function(char) return ("\\u%04x"):format(char:byte()) end),
    ["in a URL"] = token:gsub("[=/+]", percent),
    ["in HTML"] = token:gsub("[=/+]", function(char) return ("&#x%X;"):format(char:byte()) end),
    ["in HTML, decimal"] = token:gsub("[=/+]", function(char) return ("&#%d;"):format(char:byte()) end),
  } do
    it("does not repeat it " .. name, function()
      assert.equal("<[hidden]> and <[hidden]>", text.without("<" .. echo .. "> and <" .. echo .. ">", token))
    end)
  end

  it("is else as it was", function()
    for _, s in ipairs { "", "STS2eyJ",
      "&#" .. ("9"):rep(400) .. ";&#x" .. ("f"):rep(400) .. ";&#999;&#x0;\\uFFFF",
      [[50% of \ and \\/ and \u12 and &#1; and \]], "a\0b\255", ("x"):rep(500) } do
      assert.equal(s, text.without(s, token))
    end
    assert.equal("as it was", text.without("as it was", nil))
  end)

  it("may lack one that is short, or has escapes of its own", function()
    assert.equal("my [hidden]!", text.without("my tok!", "tok"))
    assert.equal("my [hidden]!", text.without([[my a\\b%2F!]], [[a\b%2F]]))
  end)
end)
