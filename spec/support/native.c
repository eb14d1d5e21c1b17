/*
 * The system calls that the specs need and that no packaged Lua 5.4 library offers: processes that cannot outlive
 * the test run, fork, signals, and a few socket tricks. native.lua compiles this file and loads it.
 *
 * A guard process holds the other end of a pipe. When the test runner ends, however it ends, the pipe closes: the
 * guard then kills the process groups still on its list and removes the temporary folder.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MOST_ARGUMENTS 256
#define MOST_GROUPS 1024
#define MOST_PENDING 16

static int guard_pipe = -1;

static int fail(lua_State *L, const char *what)
{
    int number = errno;
    lua_pushnil(L);
    lua_pushfstring(L, "%s: %s", what, strerror(number));
    lua_pushinteger(L, number);
    return 3;
}

static void close_all_above(int last)
{
    DIR *folder = opendir("/proc/self/fd");
    struct dirent *entry;
    if (!folder)
        return;
    while ((entry = readdir(folder))) {
        int fd = atoi(entry->d_name);
        if (fd > last && fd != dirfd(folder))
            close(fd);
    }
    closedir(folder);
}

/* ------------------------------------------------------------------ the guard */

static void guard(int from, const char *folder)
{
    static pid_t groups[MOST_GROUPS];
    int count = 0, i, change;
    while (read(from, &change, sizeof change) == (ssize_t)sizeof change) {
        if (change > 0 && count < MOST_GROUPS)
            groups[count++] = change;
        for (i = 0; change < 0 && i < count; i++)
            if (groups[i] == -change)
                groups[i] = groups[--count];
    }
    for (i = 0; i < count; i++)
        kill(-groups[i], SIGKILL);
    execlp("rm", "rm", "-rf", "--", folder, (char *)NULL);
    _exit(1);
}

/* start_guard(folder): forks the guard; it removes the folder in the end. */
static int n_start_guard(lua_State *L)
{
    const char *folder = luaL_checkstring(L, 1);
    int ends[2];
    pid_t pid;
    if (pipe2(ends, O_CLOEXEC) < 0)
        return fail(L, "pipe");
    pid = fork();
    if (pid < 0)
        return fail(L, "fork");
    if (pid == 0) {
        /* Its own session, so that a Ctrl-C at the terminal leaves it alive to clean up. */
        setsid();
        prctl(PR_SET_NAME, "spec-guard");
        dup2(ends[0], 0);
        close_all_above(0);
        open("/dev/null", O_WRONLY);
        open("/dev/null", O_WRONLY);
        guard(0, folder);
    }
    close(ends[0]);
    guard_pipe = ends[1];
    lua_pushboolean(L, 1);
    return 1;
}

static void tell_guard(int change)
{
    if (guard_pipe >= 0 && write(guard_pipe, &change, sizeof change) < 0)
        return;
}

/* ------------------------------------------------------------------ processes */

static void become_a_group(pid_t parent)
{
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(127);
}

static char **strings(lua_State *L, int index, char **list)
{
    lua_Integer i;
    for (i = 1; i < MOST_ARGUMENTS; i++) {
        lua_rawgeti(L, index, (int)i);
        if (lua_isnil(L, -1))
            break;
        list[i - 1] = (char *)luaL_checkstring(L, -1);
        lua_pop(L, 1); /* the table still holds the string */
    }
    list[i - 1] = NULL;
    lua_settop(L, 5);
    return list;
}

/* spawn(argv, environment, stdin, stdout, stderr): argv and NAME=value lists; three descriptors. Returns the pid. */
static int n_spawn(lua_State *L)
{
    char *argv[MOST_ARGUMENTS], *environment[MOST_ARGUMENTS];
    int fds[3], i;
    pid_t parent = getpid(), pid;
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checktype(L, 2, LUA_TTABLE);
    for (i = 0; i < 3; i++)
        fds[i] = (int)luaL_checkinteger(L, 3 + i);
    strings(L, 1, argv);
    strings(L, 2, environment);
    pid = fork();
    if (pid < 0)
        return fail(L, "fork");
    if (pid == 0) {
        sigset_t none;
        become_a_group(parent);
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        signal(SIGPIPE, SIG_DFL);
        for (i = 0; i < 3; i++)
            fds[i] = fcntl(fds[i], F_DUPFD, 10);
        for (i = 0; i < 3; i++)
            dup2(fds[i], i);
        close_all_above(2);
        execvpe(argv[0], argv, environment);
        _exit(127);
    }
    setpgid(pid, pid);
    tell_guard(pid);
    lua_pushinteger(L, pid);
    return 1;
}

/* fork(): 0 in the child, which dies with its parent. */
static int n_fork(lua_State *L)
{
    pid_t parent = getpid(), pid = fork();
    if (pid < 0)
        return fail(L, "fork");
    if (pid == 0) {
        become_a_group(parent);
        if (guard_pipe >= 0)
            close(guard_pipe);
        guard_pipe = -1;
    } else {
        setpgid(pid, pid);
        tell_guard(pid);
    }
    lua_pushinteger(L, pid);
    return 1;
}

/* leave(code): _exit, so that a forked child runs nothing that belongs to its parent. */
static int n_leave(lua_State *L)
{
    _exit((int)luaL_optinteger(L, 1, 0));
    return 0;
}

/* reap(pid): nil while it runs; else the exit code, or 128 + the signal's number and "killed". */
static int n_reap(lua_State *L)
{
    pid_t pid = (pid_t)luaL_checkinteger(L, 1);
    int status;
    pid_t got = waitpid(pid, &status, WNOHANG);
    if (got == 0) {
        lua_pushnil(L);
        return 1;
    }
    if (got < 0)
        return luaL_error(L, "waitpid %d: %s", (int)pid, strerror(errno));
    if (WIFSIGNALED(status)) {
        lua_pushinteger(L, 128 + WTERMSIG(status));
        lua_pushliteral(L, "killed");
    } else {
        lua_pushinteger(L, WEXITSTATUS(status));
        lua_pushliteral(L, "exited");
    }
    return 2;
}

/* forget(pid): the process and its group are gone. */
static int n_forget(lua_State *L)
{
    tell_guard(-(int)luaL_checkinteger(L, 1));
    return 0;
}

/* kill(pid, signal): a negative pid means the group. */
static int n_kill(lua_State *L)
{
    if (kill((pid_t)luaL_checkinteger(L, 1), (int)luaL_checkinteger(L, 2)) < 0)
        return fail(L, "kill");
    lua_pushboolean(L, 1);
    return 1;
}

static int n_getpid(lua_State *L)
{
    lua_pushinteger(L, getpid());
    return 1;
}

/* ------------------------------------------------------------------ descriptors */

static int n_pipe(lua_State *L)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return fail(L, "pipe");
    lua_pushinteger(L, ends[0]);
    lua_pushinteger(L, ends[1]);
    return 2;
}

/* open(path, "r"|"w"): "w" creates and appends. */
static int n_open(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    int flags = *luaL_checkstring(L, 2) == 'r' ? O_RDONLY : O_WRONLY | O_CREAT | O_APPEND;
    int fd = open(path, flags | O_CLOEXEC, 0600);
    if (fd < 0)
        return fail(L, path);
    lua_pushinteger(L, fd);
    return 1;
}

static int n_close(lua_State *L)
{
    lua_pushboolean(L, close((int)luaL_checkinteger(L, 1)) == 0);
    return 1;
}

/* read(fd): what is there, "" at the end. */
static int n_read(lua_State *L)
{
    char buffer[65536];
    ssize_t n = read((int)luaL_checkinteger(L, 1), buffer, sizeof buffer);
    if (n < 0)
        return fail(L, "read");
    lua_pushlstring(L, buffer, (size_t)n);
    return 1;
}

/* write(fd, bytes): all of them, blocking. */
static int n_write(lua_State *L)
{
    int fd = (int)luaL_checkinteger(L, 1);
    size_t length;
    const char *bytes = luaL_checklstring(L, 2, &length);
    while (length > 0) {
        ssize_t n = write(fd, bytes, length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail(L, "write");
        bytes += n;
        length -= (size_t)n;
    }
    lua_pushboolean(L, 1);
    return 1;
}

/* readable(fd, seconds): true when fd can be read (or has ended) within that time. */
static int n_readable(lua_State *L)
{
    struct pollfd entry = {.fd = (int)luaL_checkinteger(L, 1), .events = POLLIN};
    int n = poll(&entry, 1, (int)(luaL_checknumber(L, 2) * 1000 + 0.5));
    lua_pushboolean(L, n > 0);
    return 1;
}

/* ------------------------------------------------------------------ sockets */

/* reset_on_close(fd): close() will send RST instead of FIN. */
static int n_reset_on_close(lua_State *L)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    if (setsockopt((int)luaL_checkinteger(L, 1), SOL_SOCKET, SO_LINGER, &now, sizeof now) < 0)
        return fail(L, "SO_LINGER");
    lua_pushboolean(L, 1);
    return 1;
}

/* peek(fd): true when bytes wait in the kernel, false at the end of the stream, nil when there is nothing yet. */
static int n_peek(lua_State *L)
{
    char byte;
    ssize_t n = recv((int)luaL_checkinteger(L, 1), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        lua_pushnil(L);
    else
        lua_pushboolean(L, n > 0);
    return 1;
}

/* unread(fd): how many bytes wait in the kernel. */
static int n_unread(lua_State *L)
{
    int count = 0;
    if (ioctl((int)luaL_checkinteger(L, 1), FIONREAD, &count) < 0)
        return fail(L, "FIONREAD");
    lua_pushinteger(L, count);
    return 1;
}

/* end_writing(fd): shutdown(SHUT_WR). */
static int n_end_writing(lua_State *L)
{
    lua_pushboolean(L, shutdown((int)luaL_checkinteger(L, 1), SHUT_WR) == 0);
    return 1;
}

/* receive_buffer(fd, bytes): on a listening socket, for the connections that it accepts. */
static int n_receive_buffer(lua_State *L)
{
    int size = (int)luaL_checkinteger(L, 2);
    if (setsockopt((int)luaL_checkinteger(L, 1), SOL_SOCKET, SO_RCVBUF, &size, sizeof size) < 0)
        return fail(L, "SO_RCVBUF");
    lua_pushboolean(L, 1);
    return 1;
}

/*
 * full_listener(): a loopback port whose backlog is full, so that the kernel drops every new SYN: connecting there
 * neither succeeds nor fails. Returns the port and the descriptors that keep it so.
 */
static int n_full_listener(lua_State *L)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), i;
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, length) < 0 || listen(listener, 0) < 0 ||
        getsockname(listener, (struct sockaddr *)&address, &length) < 0)
        return fail(L, "full_listener");
    lua_pushinteger(L, ntohs(address.sin_port));
    lua_createtable(L, MOST_PENDING + 1, 0);
    lua_pushinteger(L, listener);
    lua_rawseti(L, -2, 1);
    for (i = 0; i < MOST_PENDING; i++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0 || (connect(fd, (struct sockaddr *)&address, length) < 0 && errno != EINPROGRESS))
            return fail(L, "full_listener");
        lua_pushinteger(L, fd);
        lua_rawseti(L, -2, i + 2);
    }
    return 2;
}

/* ------------------------------------------------------------------ the rest */

static void ignore(int number)
{
    (void)number;
}

/* interrupt_after(seconds): one SIGALRM then, which interrupts a system call and does nothing else. */
static int n_interrupt_after(lua_State *L)
{
    double seconds = luaL_checknumber(L, 1);
    struct sigaction action = {.sa_handler = ignore};
    struct itimerval timer = {.it_value = {.tv_sec = (time_t)seconds}};
    timer.it_value.tv_usec = (suseconds_t)((seconds - (double)timer.it_value.tv_sec) * 1e6);
    if (sigaction(SIGALRM, &action, NULL) < 0 || setitimer(ITIMER_REAL, &timer, NULL) < 0)
        return fail(L, "setitimer");
    lua_pushboolean(L, 1);
    return 1;
}

/* in_another_state(code): runs it in a Lua state of its own and closes that, which unloads the modules it loaded. */
static int n_in_another_state(lua_State *L)
{
    const char *code = luaL_checkstring(L, 1);
    lua_State *other = luaL_newstate();
    char message[256] = "";
    luaL_openlibs(other);
    if (luaL_loadstring(other, code) || lua_pcall(other, 0, 0, 0))
        strncpy(message, lua_isstring(other, -1) ? lua_tostring(other, -1) : "?", sizeof message - 1);
    lua_close(other);
    if (*message)
        return luaL_error(L, "%s", message);
    lua_pushboolean(L, 1);
    return 1;
}

#ifdef LUA_JITLIBNAME
/* can_yield(): whether the caller can. (nginx's own coroutine table has no isyieldable.) */
static int n_can_yield(lua_State *L)
{
    lua_pushboolean(L, lua_isyieldable(L));
    return 1;
}
#endif

/* keep_children(): nothing of the program waits for its children but `reap`. */
static int n_keep_children(lua_State *L)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    if (sigaction(SIGCHLD, &action, NULL) < 0)
        return fail(L, "sigaction");
    lua_pushboolean(L, 1);
    return 1;
}

static int n_now(lua_State *L)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    lua_pushnumber(L, (lua_Number)now.tv_sec + (lua_Number)now.tv_nsec * 1e-9);
    return 1;
}

static int n_sleep(lua_State *L)
{
    double seconds = luaL_checknumber(L, 1);
    struct timespec time = {.tv_sec = (time_t)seconds};
    time.tv_nsec = (long)((seconds - (double)time.tv_sec) * 1e9);
    nanosleep(&time, NULL);
    return 0;
}

/* environment(): the process's own, as a list of NAME=value. */
static int n_environment(lua_State *L)
{
    int i;
    lua_newtable(L);
    for (i = 0; environ[i]; i++) {
        lua_pushstring(L, environ[i]);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

static const luaL_Reg functions[] = {
    {"start_guard", n_start_guard},
    {"spawn", n_spawn},
    {"fork", n_fork},
    {"leave", n_leave},
    {"reap", n_reap},
    {"forget", n_forget},
    {"kill", n_kill},
    {"getpid", n_getpid},
    {"pipe", n_pipe},
    {"open", n_open},
    {"close", n_close},
    {"read", n_read},
    {"write", n_write},
    {"readable", n_readable},
    {"reset_on_close", n_reset_on_close},
    {"peek", n_peek},
    {"unread", n_unread},
    {"end_writing", n_end_writing},
    {"receive_buffer", n_receive_buffer},
    {"full_listener", n_full_listener},
    {"interrupt_after", n_interrupt_after},
    {"in_another_state", n_in_another_state},
#ifdef LUA_JITLIBNAME
    {"can_yield", n_can_yield},
#endif
    {"keep_children", n_keep_children},
    {"now", n_now},
    {"sleep", n_sleep},
    {"environment", n_environment},
    {NULL, NULL},
};

int luaopen_native(lua_State *L);
int luaopen_native(lua_State *L)
{
    const luaL_Reg *entry;
    lua_newtable(L);
    for (entry = functions; entry->name; entry++) {
        lua_pushcfunction(L, entry->func);
        lua_setfield(L, -2, entry->name);
    }
    return 1;
}
