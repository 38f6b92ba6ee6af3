# HTTP::Tiny, one object, told to verify: before version 0.083 it did not by itself. The contract is in
# tests/support/clients.py.

use strict;
use warnings;
use HTTP::Tiny;
use JSON::PP;

$| = 1;
my $client = HTTP::Tiny->new(verify_SSL => 1);

# The body is read in pieces, so that it is streamed.
sub body {
    open my $file, '<:raw', $ENV{BODY} or die "$ENV{BODY}: $!";
    return sub {
        my $got = read($file, my $piece, 65536);
        return $got ? $piece : undef;
    };
}

while (my $line = <STDIN>) {
    my ($step, $method, @urls) = split ' ', $line;
    my $answer;
    for my $url (@urls) {
        my $length = -s $ENV{BODY};
        my %more = $method eq 'POST' ? (content => body(), headers => {'content-length' => $length}) : ();
        $answer = $client->request($method, $url, \%more);
    }
    # 599 is the module's own word for what failed before there was an answer.
    my $status = $answer->{status} == 599 ? undef : 0 + $answer->{status};
    print JSON::PP->new->canonical->encode({step => $step, status => $status, text => $answer->{content}}), "\n";
}
