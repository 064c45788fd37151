/* SPDX-License-Identifier: MIT */
/*
 * containers: trees, hash maps, strings and vectors of the C++ library are built, changed and torn down.
 * The pattern: ordinary C++. Goes through operator new and sized delete.
 * Options: kind (tree, hash), threads, entries (of each thread), rounds, hold.
 */
#include <list>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "bench.h"

namespace {

struct Work {
    bool tree;
    size_t entries;
    long rounds;
    uint64_t seed;
    uint64_t operations;
};

std::string text_of(uint64_t key)
{
    std::string text = "key:" + std::to_string(key);
    return key % 4 == 0 ? text + " with a tail that does not fit into the object" : text;
}

void run_tree(Work &work, bench_random &random)
{
    std::map<uint64_t, std::string> tree;
    for (size_t i = 0; i < work.entries; i++) {
        uint64_t key = bench_random_below(&random, work.entries);
        tree[key] = text_of(key);
    }
    for (size_t i = 0; i < work.entries / 2; i++)
        tree.erase(bench_random_below(&random, work.entries));
    std::map<uint64_t, std::string> copy(tree);
    bench_keep(&copy);
    work.operations += work.entries + tree.size();
}

void run_hash(Work &work, bench_random &random)
{
    std::unordered_map<std::string, std::vector<int>> table;
    std::list<std::unique_ptr<std::string>> recent;
    for (size_t i = 0; i < work.entries; i++) {
        std::string key = text_of(bench_random_below(&random, work.entries / 8 + 1));
        table[key].push_back(static_cast<int>(i));
        recent.push_back(std::make_unique<std::string>(key));
        if (recent.size() > 1000)
            recent.pop_front();
    }
    for (size_t i = 0; i < work.entries / 16; i++)
        table.erase(text_of(bench_random_below(&random, work.entries / 8 + 1)));
    bench_keep(&table);
    work.operations += work.entries;
}

void *run(void *argument)
{
    Work &work = *static_cast<Work *>(argument);
    bench_random random = {work.seed};
    for (long i = 0; i < work.rounds; i++) {
        if (work.tree)
            run_tree(work, random);
        else
            run_hash(work, random);
    }
    return nullptr;
}

} // namespace

int main(int argc, char **argv)
{
    bench_begin(argc, argv);
    const std::string kind = bench_word("kind", "tree");
    size_t threads = static_cast<size_t>(bench_number("threads", 1));
    size_t entries = static_cast<size_t>(bench_number("entries", 200000));
    long rounds = bench_number("rounds", 5);
    std::vector<Work> work;
    for (size_t i = 0; i < threads; i++)
        work.push_back({kind == "tree", entries, rounds, i + 1, 0});
    bench_start();
    bench_threads_run(threads, run, work.data(), sizeof work[0]);
    uint64_t operations = 0;
    for (const Work &one : work)
        operations += one.operations;
    bench_end(operations, 0);
    return 0;
}
