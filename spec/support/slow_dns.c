/*
 * Preloaded into a child process: makes getaddrinfo slow for the names that end in ".slow.test", and resolves them
 * and every other name that ends in ".test" to 127.0.0.1 without any network. "no.such.test" does not exist.
 *
 * RTC_SLOW_DNS_FOLDER: a slow look-up creates the file `begun` there, waits until `release` exists (or for 60 s,
 * far more than any spec takes), and creates `ended`.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef int resolve(const char *, const char *, const struct addrinfo *, struct addrinfo **);

static void path_of(char *path, size_t size, const char *file)
{
    const char *folder = getenv("RTC_SLOW_DNS_FOLDER");
    snprintf(path, size, "%s/%s", folder ? folder : "/nonexistent", file);
}

static void mark(const char *file)
{
    char path[512];
    int fd;
    path_of(path, sizeof path, file);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0)
        close(fd);
}

static void wait_for(const char *file)
{
    char path[512];
    int i;
    path_of(path, sizeof path, file);
    for (i = 0; i < 6000 && access(path, F_OK) < 0; i++) {
        struct timespec pause = {.tv_nsec = 10000000};
        nanosleep(&pause, NULL);
    }
}

static int ends_in(const char *name, const char *end)
{
    size_t length = strlen(name), wanted = strlen(end);
    return length >= wanted && strcmp(name + length - wanted, end) == 0;
}

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **result);
int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **result)
{
    resolve *real = (resolve *)dlsym(RTLD_NEXT, "getaddrinfo");
    if (name && strcmp(name, "no.such.test") == 0)
        return EAI_NONAME;
    if (name && ends_in(name, ".slow.test")) {
        mark("begun");
        wait_for("release");
        mark("ended");
    }
    if (name && ends_in(name, ".test"))
        name = "127.0.0.1";
    return real(name, service, hints, result);
}
