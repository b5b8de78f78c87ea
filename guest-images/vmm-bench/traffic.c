// The init of the guest whose VMM's memory is measured. It has a disk, a network card and a socket device, and does a round
// with each of them when the host asks for one: whoever connects to port 5000 of the socket device sends a page, which goes to
// the disk and comes from there again, out by the network card, and back when the host has answered there, too.

#define _GNU_SOURCE // O_DIRECT
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>
#include <linux/vm_sockets.h>

enum { PAGE = 4096, PORT = 5000, CLOSED = 9 };

static char page[PAGE] __attribute__((aligned(PAGE)));

static void fail(const char *what)
{
    printf("traffic: %s: %s\n", what, strerror(errno));
    pause();
}

static struct sockaddr_in address(const char *text)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(CLOSED)};
    inet_pton(AF_INET, text, &to.sin_addr);
    return to;
}

// A socket to a port of the host's where nobody is: each datagram is answered by ICMP.
static int network(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct ifreq card = {.ifr_name = "eth0"};
    struct sockaddr_in own = address("10.0.0.2"), mask = address("255.255.255.0"), host = address("10.0.0.1");
    memcpy(&card.ifr_addr, &own, sizeof own);
    if (ioctl(fd, SIOCSIFADDR, &card))
        fail("address of eth0");
    memcpy(&card.ifr_addr, &mask, sizeof mask);
    if (ioctl(fd, SIOCSIFNETMASK, &card))
        fail("mask of eth0");
    card.ifr_flags = IFF_UP | IFF_RUNNING;
    if (ioctl(fd, SIOCSIFFLAGS, &card))
        fail("eth0");
    struct timeval limit = {.tv_sec = 10};
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) || connect(fd, (void *)&host, sizeof host))
        fail("connect to 10.0.0.1");
    return fd;
}

static int listener(void)
{
    int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
    struct sockaddr_vm own = {.svm_family = AF_VSOCK, .svm_port = PORT, .svm_cid = VMADDR_CID_ANY};
    if (bind(fd, (void *)&own, sizeof own) || listen(fd, 1))
        fail("listen");
    return fd;
}

static void serve(int stream, int disk, int net)
{
    for (int got = 0, count; got < PAGE; got += count)
        if ((count = read(stream, page + got, PAGE - got)) <= 0)
            return;
    if (pwrite(disk, page, PAGE, 0) != PAGE || fsync(disk) || pread(disk, page, PAGE, 0) != PAGE)
        fail("disk");
    char answer;
    if (send(net, page, 1000, 0) != 1000 || recv(net, &answer, 1, 0) >= 0 || errno != ECONNREFUSED)
        fail("network");
    if (write(stream, page, PAGE) != PAGE)
        fail("socket");
}

int main(void)
{
    mkdir("/dev", 0755);
    mount("dev", "/dev", "devtmpfs", 0, NULL);
    int disk = open("/dev/vda", O_RDWR | O_DIRECT);
    if (disk < 0)
        fail("/dev/vda");
    int net = network(), waiting = listener();
    puts("READY");
    for (;;) {
        int stream = accept(waiting, NULL, NULL);
        serve(stream, disk, net);
        close(stream);
    }
}
