/* relay HOST PORT: take connections on a free port, which is printed, and copy bytes both ways to HOST:PORT.
 *
 * A yardstick: the least that a hop between two sockets can do. Two threads per connection, blocking reads and writes
 * of 64 KiB, no buffering of its own. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct pair {
    int fds[2];
    int halves; /* directions that have ended */
    pthread_mutex_t lock;
};

struct direction {
    struct pair *pair;
    int from;
};

static void *copy(void *argument) {
    struct direction *direction = argument;
    struct pair *pair = direction->pair;
    int from = pair->fds[direction->from], to = pair->fds[1 - direction->from];
    char *buffer = malloc(65536);
    ssize_t size;
    while (buffer && (size = read(from, buffer, 65536)) > 0)
        for (ssize_t done = 0, wrote; done < size; done += wrote)
            if ((wrote = write(to, buffer + done, size - done)) <= 0)
                goto end;
end:
    shutdown(to, SHUT_WR);
    shutdown(from, SHUT_RD);
    free(buffer);
    free(direction);
    pthread_mutex_lock(&pair->lock);
    int last = ++pair->halves == 2;
    pthread_mutex_unlock(&pair->lock);
    if (last) {
        close(pair->fds[0]);
        close(pair->fds[1]);
        free(pair);
    }
    return NULL;
}

static int spawn(struct pair *pair, int from) {
    struct direction *direction = malloc(sizeof *direction);
    pthread_t thread;
    if (!direction)
        return -1;
    direction->pair = pair;
    direction->from = from;
    if (pthread_create(&thread, NULL, copy, direction))
        return -1;
    return pthread_detach(thread);
}

int main(int count, char **words) {
    int one = 1;
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in next = {.sin_family = AF_INET};
    socklen_t size = sizeof here;
    signal(SIGPIPE, SIG_IGN);
    if (count != 3 || inet_pton(AF_INET, words[1], &next.sin_addr) != 1)
        return 2;
    next.sin_port = htons((uint16_t)atoi(words[2]));
    int server = socket(AF_INET, SOCK_STREAM, 0);
    if (server < 0 || bind(server, (struct sockaddr *)&here, size) || listen(server, 128) ||
        getsockname(server, (struct sockaddr *)&here, &size))
        return 1;
    printf("%d\n", ntohs(here.sin_port));
    fflush(stdout);
    for (;;) {
        struct pair *pair = calloc(1, sizeof *pair);
        if (!pair || (pair->fds[0] = accept(server, NULL, NULL)) < 0)
            return 1;
        pthread_mutex_init(&pair->lock, NULL);
        pair->fds[1] = socket(AF_INET, SOCK_STREAM, 0);
        setsockopt(pair->fds[0], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        setsockopt(pair->fds[1], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (connect(pair->fds[1], (struct sockaddr *)&next, sizeof next)) {
            close(pair->fds[0]);
            close(pair->fds[1]);
            free(pair);
        } else if (spawn(pair, 0) || spawn(pair, 1)) {
            return 1;
        }
    }
}
