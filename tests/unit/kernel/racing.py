"""Many at once: the same function in threads of several processes, each of which starts at a barrier."""

import concurrent.futures
import multiprocessing

FORK = multiprocessing.get_context("fork")


def at_once(function, *, processes=4, threads=4):
    """`function(number)` in processes * threads threads; all results. An exception in one is raised here."""
    barrier = FORK.Barrier(processes)
    parent_end, child_end = zip(*[FORK.Pipe(duplex=False) for _ in range(processes)], strict=True)

    def work(process):
        barrier.wait(30)
        with concurrent.futures.ThreadPoolExecutor(threads) as pool:
            futures = [pool.submit(function, process * threads + number) for number in range(threads)]
        try:
            child_end[process].send([future.result() for future in futures])
        except BaseException as error:
            child_end[process].send(repr(error))

    children = [FORK.Process(target=work, args=(number,)) for number in range(processes)]
    for child in children:
        child.start()
    results = []
    for end, child in zip(parent_end, children, strict=True):
        assert end.poll(100), "a process gave no answer"
        part = end.recv()
        assert isinstance(part, list), part
        results += part
        child.join(10)
    return results
