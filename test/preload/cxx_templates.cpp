// SPDX-License-Identifier: MIT
// Much work for a compiler: the standard containers and algorithms over many types, and recursive
// templates. As a program: new and delete only, from several threads.
#include <algorithm>
#include <array>
#include <cstdio>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <numeric>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

template <int N> struct fibonacci {
    static constexpr unsigned long value = fibonacci<N - 1>::value + fibonacci<N - 2>::value;
};
template <> struct fibonacci<0> {
    static constexpr unsigned long value = 0;
};
template <> struct fibonacci<1> {
    static constexpr unsigned long value = 1;
};

template <std::size_t... I> constexpr auto table(std::index_sequence<I...>)
{
    return std::array<unsigned long, sizeof...(I)>{fibonacci<int(I) % 90>::value...};
}

template <int N> struct record {
    std::array<unsigned, N> numbers;
    std::string name = std::string(N, 'r');

    explicit record(unsigned seed)
    {
        for (unsigned &n : numbers)
            n = seed = seed * 1664525u + 1013904223u;
    }
    bool operator<(const record &other) const
    {
        return numbers < other.numbers;
    }
};

template <int N> unsigned long exercise()
{
    std::vector<std::unique_ptr<record<N>>> records;
    std::map<std::string, std::list<record<N>>> by_name;
    std::unordered_map<unsigned, std::shared_ptr<record<N>>> by_number;
    std::set<std::tuple<int, std::string, unsigned>> tuples;
    std::deque<std::function<unsigned(unsigned)>> functions;
    unsigned long sum = 0;

    for (unsigned i = 0; i < 400; i++) {
        records.push_back(std::make_unique<record<N>>(i));
        by_name[std::to_string(i % 17)].emplace_back(i);
        by_number[i * 7] = std::make_shared<record<N>>(i * 3);
        tuples.emplace(int(i % 5), std::string(i % 40, 't'), i);
        functions.emplace_back(
            [i, copy = *records.back()](unsigned x) { return copy.numbers[0] % (x + i + 1); });
    }
    std::sort(records.begin(), records.end(), [](const auto &a, const auto &b) { return *a < *b; });
    for (auto &[name, list] : by_name) {
        list.sort();
        sum += list.front().numbers[0] % 1000 + name.size();
    }
    for (auto &f : functions)
        sum += f(N);
    for (auto &[number, shared] : by_number)
        sum += shared->numbers[N - 1] % 10 * number;
    return sum + tuples.size() + records.front()->numbers[0] % 1000;
}

template <int... N> unsigned long exercise_all(std::integer_sequence<int, N...>)
{
    return (exercise<N + 1>() + ...);
}

struct alignas(128) aligned_pair {
    double a, b;
};

static unsigned long with_strings()
{
    std::ostringstream out;
    for (int i = 0; i < 3000; i++)
        out << "item" << i << (i % 7 != 0 ? ", " : "\n");
    std::string text = out.str();
    std::regex pattern("item([0-9]*7),");
    return (unsigned long)std::distance(std::sregex_iterator(text.begin(), text.end(), pattern),
                                        std::sregex_iterator());
}

int main()
{
    constexpr auto numbers = table(std::make_index_sequence<200>());
    std::vector<unsigned long> results(6);
    std::vector<std::thread> threads;

    for (std::size_t t = 0; t < results.size(); t++)
        threads.emplace_back([&results, t] {
            results[t] = exercise_all(std::make_integer_sequence<int, 9>()) + t;
            auto pairs = std::make_unique<aligned_pair[]>(t + 1);
            if (reinterpret_cast<std::uintptr_t>(pairs.get()) % alignof(aligned_pair) != 0)
                results[t] = 0;
        });
    for (auto &thread : threads)
        thread.join();
    std::printf("%lu %lu %lu\n", std::accumulate(numbers.begin(), numbers.end(), 0ul),
                std::accumulate(results.begin(), results.end(), 0ul), with_strings());
    try {
        // More than any address space: the operator must throw, not return.
        volatile std::size_t huge = static_cast<std::size_t>(-1) / 2;
        ::operator delete(::operator new(huge));
        std::puts("no exception");
    } catch (const std::bad_alloc &) {
        std::puts("bad_alloc");
    }
}
