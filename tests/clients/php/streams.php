<?php
// PHP's own https:// streams. They have no keep-alive.

require __DIR__ . '/steps.php';

serve(function (string $method, string $url): array {
    $options = ['method' => $method, 'ignore_errors' => true];
    if ($method === 'POST') {
        $options['content'] = file_get_contents(getenv('BODY'));
        $options['header'] = 'Content-Type: application/octet-stream';
    }
    $warning = '';
    set_error_handler(function (int $number, string $text) use (&$warning): bool {
        $warning .= $text . ' ';
        return true;
    });
    $text = file_get_contents($url, false, stream_context_create(['http' => $options]));
    restore_error_handler();
    if ($text === false) {
        return [null, $warning];
    }
    // The heads of all answers follow each other; the last status line is the final answer's.
    $statuses = preg_grep('~^HTTP/~', $http_response_header);
    return [(int) explode(' ', end($statuses))[1], $text];
});
