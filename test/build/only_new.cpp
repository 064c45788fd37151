// SPDX-License-Identifier: MIT
// A C++ program that names neither malloc nor the library: new and delete only.
#include <memory>
#include <string>
#include <thread>
#include <vector>

struct alignas(64) wide {
    double numbers[8];
};

int main()
{
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; t++)
        threads.emplace_back([] {
            std::vector<std::unique_ptr<std::string>> strings;
            for (int i = 0; i < 5000; i++)
                strings.push_back(std::make_unique<std::string>(i % 300, 'x'));
            std::vector<wide> aligned(1000);
        });
    for (auto &thread : threads)
        thread.join();
    return 0;
}
