--- Keeps a module out of LuaJIT's compiler: to be called in the module's main chunk, before it defines functions.
---
--- LuaJIT as Debian 12 has it, of January 2023, can't leave a compiled `pairs` loop in which a value is of a type that
--- it has not met, when it may not compile anything more: it goes round for ever (LuaJIT's issue 1000 is about the
--- same). So it is in a finalizer, and what an outbox still sends when the program ends is sent in one. Hence every
--- module that has such a loop and a part in sending calls this.

local jit = rawget(_G, "jit")

return function()
  if jit then
    jit.off(debug.getinfo(2, "f").func, true)
  end
end
