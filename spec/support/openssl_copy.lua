--- An OpenSSL in a folder of its own, as OpenResty's is: a copy of the system's.

local native = require "spec.support.native"
local process = require "spec.support.process"

--- Copies the headers and libcrypto.
---@return string root  as for CMake's OPENSSL_ROOT_DIR
return function()
  local root = native.path "openssl"
  process.sh(([[
    root='%s'
    mkdir -p "$root/include/openssl" "$root/lib"
    # Some of the headers are where those of one machine's kind are.
    printf '#include <openssl/evp.h>\n' | cc -E - | sed -n 's|^# 1 "\(.*\)/evp\.h".*|\1|p' | head -n 1 >"$root/headers"
    printf '#include <openssl/opensslconf.h>\n' | cc -E - | sed -n 's|^# 1 "\(.*\)/opensslconf\.h".*|\1|p' |
      head -n 1 >>"$root/headers"
    while read -r folder; do cp "$folder"/*.h "$root/include/openssl/"; done <"$root/headers"
    library=$(ldd "$RTC_BUILD/rtc/core.so" | sed -n 's|.*=> \(/.*/libcrypto\.so[^ ]*\).*|\1|p')
    cp "$library" "$root/lib/"
    ln -s "${library##*/}" "$root/lib/libcrypto.so"
  ]]):format(root))
  return root
end
