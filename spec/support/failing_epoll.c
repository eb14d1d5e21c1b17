/*
 * Preloaded into a child process: epoll_ctl refuses to watch a socket, as when the user's limit is reached, while the
 * file $RTC_FAILING_EPOLL exists. Timers may be watched.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

typedef int control(int, int, int, struct epoll_event *);

static int is_socket(int fd)
{
    int type;
    socklen_t size = sizeof type;
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0;
}

int epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event)
{
    control *real = (control *)dlsym(RTLD_NEXT, "epoll_ctl");
    const char *path = getenv("RTC_FAILING_EPOLL");
    if (operation == EPOLL_CTL_ADD && path && access(path, F_OK) == 0 && is_socket(fd)) {
        errno = ENOSPC;
        return -1;
    }
    return real(epoll, operation, fd, event);
}
