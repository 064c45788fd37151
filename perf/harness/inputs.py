# SPDX-License-Identifier: MIT
"""inputs.py: what the real programs are given to do: scripts, sources, data; all from fixed seeds."""
import ctypes.util
import glob
import random


def libc_path():
    """The C library's own file."""
    name = ctypes.util.find_library("c") or "libc.so.6"
    return next(iter(glob.glob(f"/lib/*-linux-gnu/{name}")), f"/lib64/{name}")


def resp(*words):
    """A command in redis' protocol."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def prose(length, seed=1):
    words = random.Random(seed)
    syllables = ("ka", "lo", "mi", "ten", "ra", "su", "vor", "el", "in", "dra")
    text = ""
    while len(text) < length:
        text += "".join(words.choice(syllables) for _ in range(words.randrange(1, 5))) + " "
    return text[:length]


def fast_import(files):
    """A history of `files` files, each changed in a few places, as git fast-import reads it."""
    source = random.Random(1)
    stream = []
    for commit in range(files // 4):
        stream.append("commit refs/heads/main\ncommitter A <a@example.org> %d +0000\ndata 2\nx\n" % (commit + 1))
        for _ in range(8):
            text = prose(source.randrange(500, 6000), source.randrange(files))
            stream.append(f"M 100644 inline d{source.randrange(20)}/f{source.randrange(files)}\n"
                          f"data {len(text)}\n{text}\n")
    return "".join(stream).encode()


def cxx(parts):
    """A translation unit that makes a compiler work on templates."""
    head = "".join(f"#include <{name}>\n" for name in (
        "algorithm", "functional", "map", "memory", "regex", "set", "string", "unordered_map", "vector"))
    body = """
template <int N> struct S{n} {{ std::map<std::string, std::vector<std::array<int, N>>> m; }};
int f{n}(const std::vector<std::string> &words) {{
    std::unordered_map<std::string, std::set<int>> found;
    S{n}<{n} + 1> s;
    for (const auto &word : words) found[word].insert(static_cast<int>(word.size()) + {n});
    for (const auto &[key, set] : found) s.m[key].resize(set.size());
    std::vector<std::function<int(int)>> calls;
    for (int i = 0; i < {n}; i++) calls.push_back([i, &s](int x) {{ return x + i + static_cast<int>(s.m.size()); }});
    int sum = 0;
    for (auto &call : calls) sum += call({n});
    return sum;
}}
"""
    return head + "#include <array>\n" + "".join(body.format(n=n) for n in range(parts))


def smt(holes):
    """Pigeons in one hole too few: unsatisfiable, and hard to show."""
    lines = ["(set-logic QF_UF)"]
    name = "p{}_{}".format
    pigeons = range(holes + 1)
    lines += [f"(declare-const {name(p, h)} Bool)" for p in pigeons for h in range(holes)]
    lines += ["(assert (or " + " ".join(name(p, h) for h in range(holes)) + "))" for p in pigeons]
    lines += [f"(assert (or (not {name(p, h)}) (not {name(q, h)})))"
              for h in range(holes) for p in pigeons for q in pigeons if p < q]
    return "\n".join([*lines, "(check-sat)", ""])


# Sizes and victims from the key's number: neither runs nor allocators differ.
REDIS_FILL = b"""for i = tonumber(ARGV[1]), tonumber(ARGV[2]) do
  redis.call('SET', 'key:' .. i, string.rep('x', 16 + i * 7919 % 241))
end
return ARGV[2] - ARGV[1] + 1"""

REDIS_UNLINK = b"""local deleted = 0
for i = tonumber(ARGV[1]), tonumber(ARGV[2]) do
  if i * 7919 % 100003 % 10 ~= 0 then deleted = deleted + redis.call('UNLINK', 'key:' .. i) end
end
return deleted"""

NGINX = """daemon off; worker_processes 2; pid {root}/nginx.pid; error_log {root}/error.log;
events {{ worker_connections 256; }}
http {{ access_log off; gzip on; gzip_types text/html; default_type text/html;
  client_body_temp_path {root}; proxy_temp_path {root}; fastcgi_temp_path {root};
  uwsgi_temp_path {root}; scgi_temp_path {root};
  server {{ listen 127.0.0.1:{port}; root {root}; }} }}
"""

SQL = """create table t(id integer primary key, name text, value integer);
with recursive n(i) as (select 1 union all select i + 1 from n where i < {rows})
insert into t select i, 'name' || (i * 7919 % 100003) || hex(zeroblob(i % 40)), i * 31 % 1009 from n;
create index by_name on t(name);
create index by_value on t(value, name);
select 'rows ' || count(*) from t;
select sum(length(a.name)) from t a join t b on b.id = a.value;
select value, group_concat(substr(name, 1, 8)) from t where id % 50 = 0 group by value order by value limit 3;
delete from t where value % 2 = 1;
update t set name = name || 'x' where value % 10 = 0;
select count(distinct name) from t;
"""

PYTHON = """import json
import sys
rounds = int(sys.argv[1])
for number in range(rounds):
    rows = [{"id": i, "name": "name%d" % (i * 7919 % 5003), "tags": ["t%d" % (i % k) for k in range(1, 6)]}
            for i in range(3000)]
    again = json.loads(json.dumps(rows))
    index = {}
    for row in again:
        index.setdefault(row["name"], []).append(row)
    ordered = sorted(index, key=lambda name: (len(index[name]), name))
    assert len(again) == 3000 and sum(map(len, index.values())) == 3000 and ordered
print("done", rounds)
"""

RUBY = """rounds = ARGV[0].to_i
threads = 4.times.map do |t|
  Thread.new do
    rounds.times do |r|
      words = 4000.times.map { |i| "word#{(i * 31 + r + t) % 997}-" + 'x' * (i % 60) }
      groups = words.group_by { |w| w[0, 6] }
      text = groups.map { |k, v| k.gsub('o', '0') + v.map(&:upcase).join(',') }.join("\\n")
      raise 'lost' unless text.scan('W').size >= 1 && groups.values.sum(&:size) == 4000
    end
  end
end
threads.each(&:join)
puts "done #{rounds}"
"""

NODE = """const zlib = require('zlib');
const rounds = Number(process.argv[2]);
for (let r = 0; r < rounds; r++) {
  const rows = [];
  for (let i = 0; i < 2000; i++) rows.push({id: i, name: 'name' + (i * 7919 % 5003), data: 'x'.repeat(i % 90)});
  const buffers = [];
  for (let i = 0; i < 400; i++) buffers.push(Buffer.alloc(1000 + i * 50, i % 256));
  const text = Buffer.concat([Buffer.from(JSON.stringify(rows)), ...buffers]);
  const back = zlib.inflateSync(zlib.deflateSync(text, {level: 1}));
  if (back.length !== text.length) throw new Error('lost');
}
console.log('done ' + rounds);
"""
