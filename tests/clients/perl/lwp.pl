# LWP::UserAgent, one that keeps connections. The contract is in tests/support/clients.py.

use strict;
use warnings;
use JSON::PP;
use HTTP::Request;
use LWP::UserAgent;

$| = 1;
my $client = LWP::UserAgent->new(keep_alive => 1);

while (my $line = <STDIN>) {
    my ($step, $method, @urls) = split ' ', $line;
    my $answer;
    for my $url (@urls) {
        my $request = HTTP::Request->new($method, $url);
        if ($method eq 'POST') {
            open my $file, '<:raw', $ENV{BODY} or die "$ENV{BODY}: $!";
            local $/;
            $request->content(<$file>);
            $request->content_type('application/octet-stream');
        }
        $answer = $client->request($request);
    }
    # What failed before there was an answer is a 500 of the module's own, with this field.
    my $own = ($answer->header('Client-Warning') // '') eq 'Internal response';
    my $status = $own ? undef : 0 + $answer->code;
    print JSON::PP->new->canonical->encode({step => $step, status => $status, text => $answer->decoded_content}), "\n";
}
