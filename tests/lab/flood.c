// Sends COUNT UDP packets of SIZE bytes (of IP) to ADDRESS, RATE a second; says how many a second it were. For scripts/bench capture; never shipped.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

enum { BATCH = 32, HEADERS = 28, LARGEST = 9000 };

int main(int argc, char **argv) {
    if (argc != 5) {
        fputs("flood ADDRESS SIZE COUNT RATE\n", stderr);
        return 2;
    }
    long size = atol(argv[2]) - HEADERS, count = atol(argv[3]), rate = atol(argv[4]);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9)};
    if (size < 0 || size > LARGEST || rate < 1 || inet_pton(AF_INET, argv[1], &to.sin_addr) != 1)
        return 2;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to)) {
        perror("flood");
        return 1;
    }
    static char payload[LARGEST];
    struct iovec piece = {payload, (size_t)size};
    struct mmsghdr messages[BATCH] = {0};
    for (int i = 0; i < BATCH; i++) {
        messages[i].msg_hdr.msg_iov = &piece;
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    struct timespec next, begin, end;
    clock_gettime(CLOCK_MONOTONIC, &next);
    begin = next;
    for (long sent = 0; sent < count;) {
        unsigned batch = count - sent < BATCH ? (unsigned)(count - sent) : BATCH;
        int done = sendmmsg(fd, messages, batch, 0);
        if (done < 0) {
            perror("flood: sendmmsg");
            return 1;
        }
        sent += done;
        next.tv_nsec += 1000000000L / rate * done;
        next.tv_sec += next.tv_nsec / 1000000000L;
        next.tv_nsec %= 1000000000L;
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    double seconds = (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9;
    printf("%.0f\n", (double)count / seconds);
    return 0;
}
