// calls getpid COUNT: asks the kernel for the process's id that often.
// calls fork-exec COUNT: starts `busybox true` that often, each time waiting for its end.
// Prints the sum of the ids, or the number of successes.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static long sum_of_ids(long count)
{
    long sum = 0;
    for (long i = 0; i < count; i++)
        sum += syscall(SYS_getpid);
    return sum;
}

static long successes(long count)
{
    long succeeded = 0;
    for (long i = 0; i < count; i++) {
        int status = -1;
        pid_t child = fork();
        if (child == 0) {
            execl("/busybox", "true", (char *)NULL);
            _exit(127);
        }
        if (child > 0 && waitpid(child, &status, 0) == child && status == 0)
            succeeded++;
    }
    return succeeded;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "getpid") == 0)
        printf("%ld\n", sum_of_ids(atol(argv[2])));
    else if (argc == 3 && strcmp(argv[1], "fork-exec") == 0)
        printf("%ld\n", successes(atol(argv[2])));
    else
        return 2;
    return 0;
}
