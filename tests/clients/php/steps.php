<?php
// What the PHP clients share: the steps come in on standard input, and each is answered by one line of JSON. The
// contract is in tests/support/clients.py.

// `$ask($method, $url)` returns [status, text], with null for no status.
function serve(callable $ask): void
{
    while (($line = fgets(STDIN)) !== false) {
        $words = explode(' ', trim($line));
        foreach (array_slice($words, 2) as $url) {
            [$status, $text] = $ask($words[1], $url);
        }
        echo json_encode(['step' => $words[0], 'status' => $status, 'text' => $text]), "\n";
    }
}
