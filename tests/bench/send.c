/* send DST PORT PPS SECONDS CPU [LENGTH [COUNT]]: UDP datagrams from port 40001 on one CPU, PPS 0 = as fast as it goes.
 * The first 8 octets of each payload are its number. Prints how many were sent and in how many seconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { BATCH = 32, LONGEST = 65507 };

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	static char payload[BATCH][2048];
	struct sockaddr_in to = {.sin_family = AF_INET}, from = {.sin_family = AF_INET, .sin_port = htons(40001)};
	struct mmsghdr messages[BATCH] = {0};
	struct iovec parts[BATCH];
	unsigned long long sent = 0;
	cpu_set_t cpus;

	if (argc < 6)
		return 2;
	double pps = atof(argv[3]), seconds = atof(argv[4]);
	int length = argc > 6 ? atoi(argv[6]) : 22;
	unsigned long long most = argc > 7 ? strtoull(argv[7], 0, 10) : 0;
	int batch = pps && pps < 100000 ? 8 : BATCH;

	if (length < 8 || length > 2048)
		return 2;
	CPU_ZERO(&cpus);
	CPU_SET(atoi(argv[5]), &cpus);
	sched_setaffinity(0, sizeof(cpus), &cpus);
	to.sin_port = htons(atoi(argv[2]));
	inet_pton(AF_INET, argv[1], &to.sin_addr);
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	if (bind(fd, (void *)&from, sizeof(from)) || connect(fd, (void *)&to, sizeof(to)))
		return 1;
	for (int i = 0; i < BATCH; i++) {
		parts[i] = (struct iovec){payload[i], length};
		messages[i].msg_hdr.msg_iov = &parts[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	double start = now(), t = start;
	while ((t = now()) < start + seconds && (!most || sent < most)) {
		if (pps && sent > (t - start) * pps) {
			struct timespec wait = {0, 20000};

			nanosleep(&wait, 0);
			continue;
		}
		int want = most && most - sent < (unsigned)batch ? (int)(most - sent) : batch;

		for (int i = 0; i < want; i++) {
			unsigned long long number = sent + i;

			memcpy(payload[i], &number, sizeof(number));
		}
		int done = sendmmsg(fd, messages, want, 0);
		if (done > 0)
			sent += done;
	}
	printf("%llu %.6f\n", sent, now() - start);
	return 0;
}
