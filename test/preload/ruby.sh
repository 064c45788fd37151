#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# ruby: threads, a collection after every few thousand objects, fork.
# shellcheck source=test/preload/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

need ruby
cat >"$scratch/program.rb" <<'RUBY'
require 'zlib'

def work(seed)
  random = Random.new(seed)
  words = Hash.new { |h, k| h[k] = [] }
  5000.times do |i|
    text = random.bytes(random.rand(200)).unpack1('H*')
    words[text[0, 2]] << text * (i % 4)
    GC.start if i % 2500 == 0
  end
  packed = Zlib::Deflate.deflate(words.sort.flatten.join(','))
  Zlib.crc32(Zlib::Inflate.inflate(packed))
end

puts (1..8).map { |seed| Thread.new { work(seed) } }.map(&:value).join(' ')
100.times { |round| (1..5).map { |i| Thread.new { 'z' * (i * round * 100) } }.each(&:join) }
reader, writer = IO.pipe
pid = fork do
  reader.close
  writer.puts Thread.new { work(99) }.value
end
writer.close
puts reader.read
Process.wait(pid)
puts $?.exitstatus
RUBY
same_on_both 'ruby, threads and fork' ruby --disable-gems "$scratch/program.rb"
