#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# perl with interpreter threads: each thread clones the whole interpreter and tears it down again.
# shellcheck source=test/preload/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

need perl
perl -Mthreads -MThread::Queue -e 1 2>/dev/null || {
    echo 'SKIP: this perl has no threads'
    exit 77
}
export PERL_HASH_SEED=0 PERL_PERTURB_KEYS=0

cat >"$scratch/program.pl" <<'PERL'
use strict;
use warnings;
use threads;
use Thread::Queue;

sub work {
    my ($seed) = @_;
    my (%words, $sum);
    for my $i (1 .. 20000) {
        $seed = ($seed * 1103515245 + 12345) % 2147483648;
        my $word = join '', map { chr(97 + ($seed >> $_) % 9) } 0 .. $seed % 12;
        $words{$word} .= 'x' x ($i % 50);
    }
    $sum += length($words{$_}) * length($_) for keys %words;
    (my $text = join ' ', sort keys %words) =~ s/([a-c]+)/<$1>/g;
    return $sum + length $text;
}

for my $round (1 .. 3) {
    my @threads = map { my $seed = $_ * $round; threads->create(sub { work($seed) }) } 1 .. 6;
    print join(' ', map { $_->join } @threads), "\n";
}

my ($in, $out) = (Thread::Queue->new, Thread::Queue->new);
my @pool = map {
    threads->create(sub { while (defined(my $text = $in->dequeue)) { $out->enqueue(length(reverse($text) x 3)) } })
} 1 .. 4;
$in->enqueue('y' x ($_ * 13 % 3000)) for 1 .. 3000;
$in->end;
$_->join for @pool;
my $total = 0;
$total += $out->dequeue for 1 .. 3000;
print "$total\n";
PERL
same_on_both 'perl, threads' perl "$scratch/program.pl"
